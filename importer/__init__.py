"""Adds very many existing contacts to Exotel Campaigns lists, and accounts for every row.

As a library: `run_import`, in one's own asyncio program. What it takes and gives is imported when it is asked for, so
that help and version of the command come at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importer.configuration import load_settings
    from importer.errors import ImporterError, InputError, RunDirectoryError, SettingsError
    from importer.library import Progress, run_import
    from importer.model import ExitCode, Outcome, Wait
    from importer.settings import Credentials, Settings
    from importer.summary import Summary

__version__ = "0.1.0"

__all__ = [
    "Credentials",
    "ExitCode",
    "ImporterError",
    "InputError",
    "Outcome",
    "Progress",
    "RunDirectoryError",
    "Settings",
    "SettingsError",
    "Summary",
    "Wait",
    "load_settings",
    "run_import",
]

_HOMES = {
    "configuration": {"load_settings"},
    "errors": {"ImporterError", "InputError", "RunDirectoryError", "SettingsError"},
    "library": {"Progress", "run_import"},
    "model": {"ExitCode", "Outcome", "Wait"},
    "settings": {"Credentials", "Settings"},
    "summary": {"Summary"},
}


def __getattr__(name: str) -> Any:
    from importlib import import_module  # noqa: PLC0415  # as lazy as all of this

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"importer.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
