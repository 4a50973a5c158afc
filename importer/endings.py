"""How a command ends that does not end well: what is said, where the details are, and with which exit code.

Loads next to nothing: it is there before any command is known.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from itertools import takewhile
from pathlib import Path
from tempfile import NamedTemporaryFile

_OF_A_FILE = {
    getattr(errno, name)
    for name in (
        *("EACCES", "EBADF", "EDQUOT", "EFBIG", "EIO", "EISDIR", "ELOOP", "EMFILE", "ENAMETOOLONG", "ENFILE", "ENODEV"),
        *("ENOENT", "ENOSPC", "ENOTDIR", "ENXIO", "EPERM", "EROFS", "ESTALE"),
    )
}


def is_debugging() -> bool:
    """Whether `--debug` stands before the command."""
    return "--debug" in takewhile(lambda word: word.startswith("-"), sys.argv[1:])


def open_standard_streams() -> None:
    """Let no file of ours take the number of a stream that was closed: what is written to it fails, or is lost."""
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)
    # By their numbers, for as long as we live.
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file may have any name, and a terminal any encoding


def drop_output() -> None:
    """Try no more to write what standard output did not take."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def explain(error: Exception, say: Callable[[str], None]) -> int:
    """Say what went wrong, and give the exit code."""
    from importer.errors import ImporterError, IncompleteError, disk_error  # noqa: PLC0415  # seldom needed

    if is_debugging():
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.errno in _OF_A_FILE:
        drop_output()
        error = disk_error(error, Path("standard output"))  # what else is written to has a name
    if isinstance(error, ImporterError):
        say(str(error))
        return error.exit_code
    # Exit code 1 would say that the run finished; whatever is done is in the journal.
    details = "" if is_debugging() else f" Please report it with {_keep_details(error)}; --debug shows it here."
    say(
        f"A defect of the importer ended this ({type(error).__name__}). Nothing is lost: the same command goes on."
        f"{details}"
    )
    return IncompleteError.exit_code


def _keep_details(error: Exception) -> str:
    """Write down where a defect arose, for the user alone. Gives the file."""
    details = "".join(traceback.format_exception(error))
    for name, value in os.environ.items():
        if name.startswith("EXOTEL_API_") and value:
            details = details.replace(value, "**********")
    try:
        with NamedTemporaryFile("w", prefix="importer-defect-", suffix=".txt", delete=False) as file:
            file.write(details)
    except OSError as refused:
        return f"what --debug shows (no file could be written: {refused.strerror})"
    return file.name
