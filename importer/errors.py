"""What can end a run early, as sentences for people: what, where, what to do next."""

from __future__ import annotations

import errno
from pathlib import Path

from importer.model import ExitCode


class ImporterError(Exception):
    """A run, or the command before it, cannot go on. `str()` is the sentence to show; no traceback is due."""

    exit_code = ExitCode.USAGE


class SettingsError(ImporterError):
    """A setting, a flag or a credential is missing or wrong."""


class InputError(ImporterError):
    """The input cannot be read, or not be read on."""


class RunDirectoryError(ImporterError):
    """The run directory belongs to something else."""


class OtherInputError(RunDirectoryError):
    """The run directory is of this list and these settings, but the input is not what it was."""


class RefusedError(ImporterError):
    """The API refused credentials, address or list; no other request would fare better."""

    exit_code = ExitCode.REFUSED


class ThresholdError(ImporterError):
    """Too much went wrong, or everything in the same way."""

    exit_code = ExitCode.THRESHOLD


class IncompleteError(ImporterError):
    """The run was cut short by a signal, an outage or the disk; the same command goes on."""

    exit_code = ExitCode.INCOMPLETE


_OF_A_PATH = {errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR}


def disk_error(error: OSError, path: Path) -> IncompleteError:
    """Say that the disk refused."""
    other_path = ", or choose another path" if error.errno in _OF_A_PATH else ""
    return IncompleteError(
        f"{error.filename or path}: {error.strerror or error}. Make room or mend its permissions{other_path}, then run "
        "the same command again."
    )
