"""A stand-in of the vendor's API on loopback, with scripted faults and a ledger of what truly happened.

From the outside in: `server` (sockets) and `views` (the other addresses) ask `engine` (one request after another),
which asks `faults` (what the `scenario` scripts), `limiter`, `api` (what is refused) and `settlement` (what becomes of
each contact, by `population`), writes `ledger`, and has `answers`, `mutations`, `distortion` and `throttling` word what
is said. It shares nothing with the rest of the importer, so that a mistake cannot hide by being made twice.
"""

from importer.sandbox.errors import SandboxError, ScenarioError
from importer.sandbox.ledger import Ledger
from importer.sandbox.population import Population, Standing
from importer.sandbox.scenario import DEFAULT_LIST, Scenario, bundled_scenarios
from importer.sandbox.sections import Api, Latency, LedgerSettings, Limit, LimitChange, Poison
from importer.sandbox.server import Sandbox
from importer.sandbox.sids import digest_of

__all__ = [
    "DEFAULT_LIST",
    "Api",
    "Latency",
    "Ledger",
    "LedgerSettings",
    "Limit",
    "LimitChange",
    "Poison",
    "Population",
    "Sandbox",
    "SandboxError",
    "Scenario",
    "ScenarioError",
    "Standing",
    "bundled_scenarios",
    "digest_of",
]
