"""What the page says in words: what exit codes, outcomes and anomalies mean, what to do next, numbers and times."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path

from importer.model import Anomaly, ExitCode, Outcome
from importer.page.timeline import Answer
from importer.status import Status

EXIT_CODES = {
    ExitCode.COMPLETE: "finished; every row is in the list",
    ExitCode.SOME_NOT_IN_LIST: "finished; some rows are not in the list",
    ExitCode.USAGE: "usage, configuration or input error",
    ExitCode.THRESHOLD: "stopped by a threshold, or because everything failed the same way",
    ExitCode.REFUSED: "refused by the API: credentials, address or list",
    ExitCode.INCOMPLETE: "incomplete: a signal, an outage, a full disk",
}
OUTCOMES = {
    Outcome.ADDED: "the API accepted it",
    Outcome.ALREADY_PRESENT: "the API says that the list has it",
    Outcome.DUPLICATE: "not sent: the same sid stands in an earlier row of its batch",
    Outcome.REJECTED: "the API refused this contact",
    Outcome.INVALID: "not sent: the row has no usable sid",
    Outcome.FAILED: "not delivered, and known not to be",
    Outcome.UNKNOWN: "it may or may not have been added",
}
ANOMALIES = {
    Anomaly.MISSING: "a contact that was sent and is not in the answer",
    Anomaly.SURPLUS: "an item that names no contact, at a position that proves nothing",
    Anomaly.REPEATED: "an item that says again what another one said",
    Anomaly.FOREIGN: "an item that names a contact that was not sent",
    Anomaly.CONTRADICTORY: "an item that contradicts another one, or itself",
    Anomaly.UNREADABLE_ITEM: "an item that says neither yes nor no",
    Anomaly.METADATA: "counts in the answer that contradict its items",
    Anomaly.UNREADABLE_ANSWER: "an answer that cannot be read",
}
ANSWERS = {
    Answer.OK: "answered",
    Answer.THROTTLED: "too many requests",
    Answer.SERVER_ERROR: "an error of the API",
    Answer.OTHER: "a refusal",
    Answer.NONE: "no connection, or lost, or too late",
}


def state_of(status: Status) -> tuple[str, str]:
    """Give the state of a run in a word or two, and the class that colours it."""
    if status.running:
        return "under way", "busy"
    if not status.summary.complete:
        return "incomplete", "bad"
    return "complete", "good" if status.summary.exit_code is ExitCode.COMPLETE else "fair"


def next_step(status: Status, directory: Path) -> tuple[str, str]:
    """Say what to do now, and with which command, if with one of ours."""
    run = shlex.quote(str(directory))
    if status.running:
        return "A process is at work. To look again:", f"importer status {run}"
    if status.summary.complete and status.summary.exit_code is ExitCode.COMPLETE:
        return "Nothing is left to do. To prove the report against the input:", f"importer verify {run}"
    if status.summary.complete:
        return "Look at the rows that are not in the list; mended, they can be imported:", f"importer failed {run}"
    if status.summary.error:
        return status.summary.error, ""
    return "The process died before it could say why. Run the same command again: it goes on.", ""


def span(seconds: float) -> str:
    """Say how long something takes: 0.42 s, 45 s, 12 min 5 s, 3 h 10 min, 2 d 4 h."""
    if seconds < 59.5:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    parts = [(minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min"), (rest, "s")]
    while not parts[0][0]:
        del parts[0]
    return " ".join(f"{number} {unit}" for number, unit in parts[:2] if number)


def share(part: float, whole: float) -> str:
    """Say a share; neither what is there nor what is missing is rounded away."""
    if not whole:
        return ""
    if 0 < part / whole < 0.0001:
        return "< 0.01 %"
    if 0.9999 < part / whole < 1:
        return "> 99.99 %"
    return f"{part / whole * 100:.2g} %" if part / whole < 0.00995 else f"{part / whole * 100:.2f} %"


def moment(at: datetime) -> str:
    """Say when something was, to the second."""
    return f"{at.day} {at:%b %Y, %H:%M:%S}"
