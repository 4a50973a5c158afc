"""One process at a time sends for an account, among those whose runs lie together: two would exceed its quota."""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

from importer.errors import RunDirectoryError
from importer.recovery import is_running, make_directory


class _Holder(msgspec.Struct):
    """Who has the turn, for the message to who has not."""

    pid: int
    directory: str


class Turn:
    """The turn to send for an account. It ends with the process, however that ends.

    Where a lock cannot be had at all (a directory that nobody may write to, a file system without locks), the turn is
    everybody's.
    """

    def __init__(self, home: Path, url: str, account_sid: str, overlap: Literal["refuse", "allow"]) -> None:
        """Take nothing yet. `home` holds the runs; `overlap` tells whether to look who else is at work."""
        name = hashlib.sha256(f"{url}\n{account_sid}".encode()).hexdigest()[:8]
        self._home = home
        self._path = home / f".account-{name}.lock"
        self._overlap = overlap
        self._file: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._file is not None:
            with suppress(OSError):  # others have it too
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._path.unlink()
            os.close(self._file)
            self._file = None

    def take(self, directory: Path) -> None:
        """Take the turn for a run, and keep it for others. Raises RunDirectoryError where another process has it."""
        if self._file is None:
            self._file = self._locked(directory)
        if self._file is not None:
            with suppress(OSError):  # a full disk: it only tells others who we are
                os.ftruncate(self._file, 0)
                os.pwrite(self._file, msgspec.json.encode(_Holder(os.getpid(), str(directory))), 0)

    def _locked(self, directory: Path) -> int | None:
        kind = fcntl.LOCK_SH if self._overlap == "allow" else fcntl.LOCK_EX
        while True:
            try:
                make_directory(self._home)
                file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError:
                return None
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(file), self._path.stat()):
                    return file
            except FileNotFoundError:
                pass
            except OSError as error:
                holder = _read(file)
                os.close(file)
                # Who is at work on this very run is refused by its own lock, and told so.
                if isinstance(error, BlockingIOError) and self._overlap == "refuse" and not is_running(directory):
                    raise RunDirectoryError(_refusal(directory, holder)) from None
                return None
            os.close(file)  # whoever had it has ended meanwhile, and removed it


def _read(file: int) -> _Holder | None:
    try:
        return msgspec.json.decode(os.pread(file, 1 << 16, 0), type=_Holder)
    except (OSError, msgspec.MsgspecError):
        return None


def _refusal(directory: Path, holder: _Holder | None) -> str:
    who = f" ({holder.directory}, process {holder.pid})" if holder else ""
    return (
        f"{directory}: another run of this account is at work{who}, and two together would exceed its quota. Wait for "
        "it; if each of them keeps to its share of the quota, set run.overlap to allow."
    )
