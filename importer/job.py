"""What is to be run: an opened input, a list, settings, and the directory it goes to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from importer.inputs import Input
from importer.settings import Credentials, InputSettings, Settings
from importer.source import CsvSource
from importer.state import Identity


class Job(msgspec.Struct, frozen=True):
    """What is to be run: an opened input, a list, and who we are."""

    source: CsvSource
    identity: Identity
    directory: Path
    settings: Settings
    account_sid: str
    credentials: Credentials


def open_source(source: Input, section: InputSettings, batch_size: int) -> CsvSource:
    """Read the input's header as the settings say. Raises InputError or SettingsError."""
    return CsvSource(
        source,
        column=section.column,
        delimiter=None if section.delimiter == "auto" else section.delimiter,
        encoding=section.encoding,
        sid_pattern=section.sid_pattern,
        batch_size=batch_size,
    )


def identify(source: Input, batches: CsvSource, list_sid: str, settings: Settings) -> Identity:
    """Say what a run of this input into this list is of."""
    return Identity(
        list_sid=list_sid,
        location=source.location,
        size_bytes=source.size_bytes,
        sample=source.sample,
        batch_size=settings.delivery.batch_size,
        position=batches.position,
        has_header=batches.header is not None,
        delimiter=batches.delimiter,
        encoding=settings.input.encoding,
        sid_pattern=settings.input.sid_pattern,
    )


def default_directory(source: Input, list_sid: str, settings: Settings) -> Path:
    """Give the directory of this input's run into this list: a new content or another list is another run."""
    identity = f"{list_sid}\n{source.size_bytes}\n{source.sample}"
    return settings.run.directory / f"{source.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def job_of(
    source: Input, list_sid: str, settings: Settings, account_sid: str, credentials: Credentials, directory: Path
) -> Job:
    """Read the input's header, and say what is to be run. Raises InputError or SettingsError."""
    batches = open_source(source, settings.input, settings.delivery.batch_size)
    return Job(batches, identify(source, batches, list_sid, settings), directory, settings, account_sid, credentials)
