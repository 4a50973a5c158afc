"""One process at a time sends for an account."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Literal

import pytest

from importer.errors import RunDirectoryError
from importer.overlap import Turn
from importer.recovery import DirectoryLock

URL = "http://127.0.0.1:8080"


def turn_of(home: Path, account: str = "account", overlap: Literal["refuse", "allow"] = "refuse") -> Turn:
    return Turn(home, URL, account, overlap)


def lock_in(home: Path) -> Path:
    """Where the account's lock lies."""
    with turn_of(home) as turn:
        turn.take(home / "run")
        (lock,) = home.glob(".account-*.lock")
    return lock


def test_second_run_of_the_account_is_refused(tmp_path: Path) -> None:
    """Two runs beside each other would exceed the quota: the second is told of the first, and what can be done."""
    with turn_of(tmp_path) as first, turn_of(tmp_path) as second:
        first.take(tmp_path / "first")
        with pytest.raises(RunDirectoryError) as caught:
            second.take(tmp_path / "second")

    assert str(caught.value) == (
        f"{tmp_path / 'second'}: another run of this account is at work ({tmp_path / 'first'}, process {os.getpid()}), "
        "and two together would exceed its quota. Wait for it; if each of them keeps to its share of the quota, set "
        "run.overlap to allow."
    )


def test_turn_ends_with_its_run(tmp_path: Path) -> None:
    """As soon as one has ended, the next has its turn; several runs of one process have one turn."""
    with turn_of(tmp_path) as first:
        first.take(tmp_path / "first")
        first.take(tmp_path / "second")
    with turn_of(tmp_path) as next_one:
        next_one.take(tmp_path / "third")


def test_other_accounts_and_other_homes_have_turns_of_their_own(tmp_path: Path) -> None:
    """Each account has its quota, and where runs do not lie together, nobody is seen."""
    with turn_of(tmp_path) as first, turn_of(tmp_path, "other") as second, turn_of(tmp_path / "other") as third:
        for turn in (first, second, third):
            turn.take(tmp_path / "run")


def test_overlap_can_be_allowed(tmp_path: Path) -> None:
    """Who says that it is meant may begin beside others; who does not is still refused beside them."""
    with turn_of(tmp_path) as first, turn_of(tmp_path, overlap="allow") as second:
        first.take(tmp_path / "first")
        second.take(tmp_path / "second")
    with turn_of(tmp_path, overlap="allow") as first, turn_of(tmp_path, overlap="allow") as second:
        first.take(tmp_path / "first")
        second.take(tmp_path / "second")
        with turn_of(tmp_path) as third, pytest.raises(RunDirectoryError):
            third.take(tmp_path / "third")


def test_same_run_is_refused_by_its_own_lock(tmp_path: Path) -> None:
    """A second process on one and the same run is told of that by the run's lock, not by the account's."""
    with turn_of(tmp_path) as first, turn_of(tmp_path) as second, DirectoryLock(tmp_path / "run"):
        first.take(tmp_path / "run")
        second.take(tmp_path / "run")


@pytest.mark.parametrize("at", ["a file/runs", "a file"])
def test_where_nothing_can_be_locked_all_have_a_turn(tmp_path: Path, at: str) -> None:
    """A home in which no file can be made keeps nobody from running."""
    (tmp_path / "a file").touch()
    with turn_of(tmp_path / at) as first, turn_of(tmp_path / at) as second:
        first.take(tmp_path / "first")
        second.take(tmp_path / "second")


def test_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    """Nobody makes us write to another file by putting a link there."""
    lock = lock_in(tmp_path)
    (tmp_path / "precious").write_text("mine")
    lock.symlink_to("precious")

    with turn_of(tmp_path) as turn:
        turn.take(tmp_path / "run")

    assert (tmp_path / "precious").read_text() == "mine"


def test_nothing_is_left_of_a_turn(tmp_path: Path) -> None:
    """After the last of those who share it, the lock's file is gone: among the runs there are runs alone."""
    with turn_of(tmp_path, overlap="allow") as first:
        with turn_of(tmp_path, overlap="allow") as second:
            first.take(tmp_path / "first")
            second.take(tmp_path / "second")
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_lock_that_is_removed_meanwhile_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who locks a file that its last holder has just removed has locked nothing: it is tried again."""
    flock = fcntl.flock
    removed: list[Path] = []

    def remove_first(file: int, kind: int) -> None:
        if not removed:
            removed.extend(tmp_path.glob(".account-*.lock"))
            removed[0].unlink()
        flock(file, kind)

    monkeypatch.setattr("importer.overlap.fcntl.flock", remove_first)
    with turn_of(tmp_path) as first, turn_of(tmp_path) as second:
        first.take(tmp_path / "first")
        assert removed[0].exists()
        with pytest.raises(RunDirectoryError, match="another run"):
            second.take(tmp_path / "second")


@pytest.mark.parametrize("left", [b"", b"garbage", b'{"pid": "x"}'])
def test_whatever_stands_in_the_lock(tmp_path: Path, left: bytes) -> None:
    """The note in the lock is a help; without it, or without the run that it names, all goes well."""
    lock = lock_in(tmp_path)
    lock.write_bytes(left)

    with turn_of(tmp_path) as first, turn_of(tmp_path) as second:
        first.take(tmp_path / "run")
        lock.write_bytes(left)
        with pytest.raises(RunDirectoryError, match="another run of this account is at work"):
            second.take(tmp_path / "second")
