"""What can be wrong with a scenario or with starting the sandbox, as sentences for people."""

from __future__ import annotations


class SandboxError(Exception):
    """The sandbox cannot start or go on. `str()` is the sentence to show; no traceback is due."""


class ScenarioError(SandboxError):
    """A scenario names an unknown key or a bad value; the sentence names file and key."""
