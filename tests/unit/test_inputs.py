"""An input's bytes come whole, from a file or a pipe, compressed or not; or there is an error, never an early end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importer.errors import ImporterError, InputError
from importer.inputs import DAMAGED_STREAM_ERRORS, Input
from importer.source import CsvSource
from tests.builders import (
    COMPRESSIONS,
    SOURCE_DEFAULTS,
    bare,
    opened,
    piped,
    standard_input,
)

compressions = pytest.mark.parametrize("compress", COMPRESSIONS.values(), ids=COMPRESSIONS.keys())
LARGE = Random(1).randbytes(300_000)  # more than every buffer on the way, and it does not shrink


def content(source: Input) -> bytes:
    return source.stream().read()


@compressions
def test_compressed_input_is_read_as_it_is(compress: Callable[[bytes], bytes]) -> None:
    """Compression is recognised by content, whatever the file is called."""
    with opened(compress(LARGE)) as source:
        read = content(source)

    assert read == LARGE


@compressions
def test_compressed_pipe_is_read_as_it_is(compress: Callable[[bytes], bytes]) -> None:
    """A pipe that is compressed is decompressed, in whatever pieces it comes."""
    with piped(compress(LARGE), chunk_bytes=1000) as source:
        read = content(source)

    assert read == LARGE


@compressions
def test_concatenated_streams_are_one_input(compress: Callable[[bytes], bytes]) -> None:
    """Compressed files put after one another are read to the end of the last one."""
    with opened(compress(b"first") + compress(LARGE) + compress(b"") + compress(b"last")) as source:
        read = content(source)

    assert read == b"first" + LARGE + b"last"


@pytest.mark.parametrize("padding_bytes", [4, 200_000])
@pytest.mark.parametrize("name", ["gz", "bz2", "xz"])
def test_padding_with_zeros_is_no_damage(name: str, padding_bytes: int) -> None:
    """Zeros after a compressed stream, as tapes and block devices leave them, are skipped."""
    compress = COMPRESSIONS[name]
    with opened(compress(b"first") + bytes(padding_bytes) + compress(b"last") + bytes(padding_bytes)) as source:
        read = content(source)

    assert read == b"firstlast"


@compressions
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: whole[:-1], id="last byte missing"),
        pytest.param(lambda whole: whole[: len(whole) // 2], id="cut in the middle"),
        pytest.param(lambda whole: whole + b"\x01", id="one byte of garbage after the end"),
        pytest.param(lambda whole: whole + b"garbage after the end", id="garbage after the end"),
        pytest.param(lambda whole: whole + whole[:3], id="a second stream that hardly begins"),
        pytest.param(lambda whole: whole + whole[:-1], id="a second stream that is cut short"),
        pytest.param(lambda whole: whole + bytes(8) + b"garbage", id="garbage after padding"),
        pytest.param(
            lambda whole: whole + whole[:1000] + bytes([whole[1000] ^ 0x55]) + whole[1001:], id="a damaged second"
        ),
    ],
)
def test_damage_is_an_error(compress: Callable[[bytes], bytes], damage: Callable[[bytes], bytes]) -> None:
    """Compressed data that is damaged or cut short is an error, and never an early end."""
    with opened(damage(compress(LARGE))) as source, pytest.raises(DAMAGED_STREAM_ERRORS):
        content(source)


@compressions
def test_every_cut_is_an_error(compress: Callable[[bytes], bytes]) -> None:
    """Wherever a compressed input is cut, the source complains."""
    whole = compress(bare(*range(5)).encode())
    silent = []
    for length in range(1, len(whole)):
        with opened(whole[:length]) as source:
            try:
                list(CsvSource(source, **SOURCE_DEFAULTS))
                silent.append(length)
            except ImporterError:
                pass

    assert silent == []


@compressions
def test_every_wrong_byte_is_an_error_or_harmless(compress: Callable[[bytes], bytes]) -> None:
    """Whichever byte of a compressed input is wrong, no other sids come of it than those it holds."""
    first, second = compress(bare(1, 2).encode()), compress(bare(3, 4).encode())
    whole = first + second
    expected = bare(1, 2, 3, 4).split()
    wrong = []
    for place in range(len(whole)):
        damaged = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        with opened(damaged) as source:
            try:
                sids = [sid for batch in CsvSource(source, **SOURCE_DEFAULTS) for sid in batch.sids]
            except ImporterError:
                continue
        if sids != expected:
            wrong.append(place)

    assert wrong == []


@given(data=st.binary(min_size=1, max_size=300), repeat=st.integers(1, 400), chunk_bytes=st.integers(1, 70_000))
def test_a_pipe_gives_what_a_file_gives(data: bytes, repeat: int, chunk_bytes: int) -> None:
    """Plain bytes come through unchanged, in whatever pieces a pipe hands them over."""
    data = b"," + data * repeat
    chunk_bytes = max(chunk_bytes, len(data) // 100)
    with opened(data) as file, piped(data, chunk_bytes) as pipe:
        from_file, from_pipe = content(file), content(pipe)

    assert data == from_file == from_pipe


def test_standard_input_is_a_dash(tmp_path: Path) -> None:
    """`-` reads standard input and leaves it open."""
    path = tmp_path / "x.csv"
    path.write_bytes(b"contact_sid\n")
    with path.open("rb") as file, standard_input(file.fileno()), closing(Input("-")) as source:
        read = content(source)
        source.close()
        os.fstat(0)

    assert read == b"contact_sid\n"
    assert source.name == "standard input"


def test_standard_input_goes_on_where_another_left_it(tmp_path: Path) -> None:
    """What was read of standard input before is no part of the input, and nothing after it is lost."""
    path = tmp_path / "x.csv"
    path.write_bytes(b"read before\n" + LARGE)
    with path.open("rb", buffering=0) as file, standard_input(file.fileno()):
        os.lseek(0, len(b"read before\n"), os.SEEK_SET)
        read = content(Input("-"))

    assert read == LARGE


def test_a_pipe_that_does_not_block_is_waited_for() -> None:
    """Where nothing has been written yet the input is not at its end."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    pieces = [b"%05d\n" % number * 3000 for number in range(20)]
    asked = threading.Event()

    def write() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as pipe:
            asked.wait()
            for piece in pieces:
                pipe.write(piece)

    writer = threading.Thread(target=write)
    writer.start()
    with standard_input(read_end):
        os.close(read_end)
        asked.set()
        read = content(Input("-"))
        writer.join()

    assert b"".join(pieces) == read


def _missing(directory: Path) -> str:
    return str(directory / "missing.csv")


def _directory(directory: Path) -> str:
    return str(directory)


def _empty(directory: Path) -> str:
    path = directory / "empty.csv"
    path.touch()
    return str(path)


def _below_a_file(directory: Path) -> str:
    return f"{_empty(directory)}/x.csv"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(_missing, "no such file.", id="missing"),
        pytest.param(_directory, "is a directory; name a CSV file in it.", id="directory"),
        pytest.param(_empty, "the input is empty; expected a header and rows of contact sids.", id="empty"),
        pytest.param(_below_a_file, "cannot be opened: ", id="below a file"),
        pytest.param(lambda _: "nul\0byte", "cannot be opened: ", id="not a path"),
        pytest.param(lambda _: "/dev/null", "the input is empty", id="null device"),
    ],
)
def test_what_cannot_be_opened_is_explained(tmp_path: Path, make: Callable[[Path], str], said: str) -> None:
    """An input that is not there, or cannot be read, is one sentence with its name."""
    location = make(tmp_path)
    with pytest.raises(InputError) as caught:
        Input(location)

    assert str(caught.value).startswith(f"{location}: {said}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_is_explained(tmp_path: Path) -> None:
    """An input that we may not read is one sentence with its name."""
    path = tmp_path / "x.csv"
    path.touch(mode=0o000)
    with pytest.raises(InputError) as caught:
        Input(str(path))

    assert f"{path}: no permission to read it." == str(caught.value)


def test_closed_standard_input_is_explained() -> None:
    """A process without standard input is told so."""
    saved = os.dup(0)
    os.close(0)
    try:
        with pytest.raises(InputError) as caught:
            Input("-")
    finally:
        os.dup2(saved, 0)
        os.close(saved)

    assert str(caught.value).startswith("standard input: cannot be opened: ")


@pytest.mark.parametrize(
    ("location", "stem"),
    [
        ("-", "stdin"),
        ("contacts.csv", "contacts"),
        ("a/b/contacts.2026.csv.gz", "contacts"),
        ("my contacts (1).csv", "my-contacts-1"),
        (".csv", "input"),
        ("größe.csv", "größe"),
        ("..", "input"),
    ],
)
def test_stem_is_fit_for_a_directory(location: str, stem: str) -> None:
    """The stem names a run's directory: no endings, no blanks, never empty."""
    source = Input.__new__(Input)
    source.location = location

    assert stem == source.stem


def _identity(data: bytes) -> tuple[int | None, str]:
    with opened(data) as source:
        return source.size_bytes, source.sample


def test_identity_is_that_of_the_content() -> None:
    """The same content has the same identity wherever it lies; other content of the same size has another."""
    ends = [0, len(LARGE) // 3 - 1, len(LARGE) * 2 // 3 - 1, len(LARGE) - 1]
    changed = [LARGE[:place] + bytes([LARGE[place] ^ 1]) + LARGE[place + 1 :] for place in ends]

    assert _identity(LARGE) == _identity(LARGE)
    assert len({_identity(LARGE), *map(_identity, changed)}) == 5


def test_taking_the_identity_loses_nothing_of_a_pipe() -> None:
    """A pipe has no size, is identified by its beginning, and is read from its beginning all the same."""
    with piped(LARGE) as source:
        size, read = source.size_bytes, content(source)

    assert size is None
    assert read == LARGE


@pytest.mark.parametrize("size", [10, 70_000, 1_000_000, 20_000_000])
@pytest.mark.parametrize("place", [0.0, 0.31, 0.5, 0.77, 1.0])
def test_changed_byte_of_a_small_file_changes_its_identity(tmp_path: Path, size: int, place: float) -> None:
    """Up to 16 MiB every byte counts; of a larger file a sample does, its ends always."""
    path = tmp_path / "contacts.csv"
    content = bytearray(b"a" * size)
    path.write_bytes(content)
    with closing(Input(str(path))) as source:
        before = source.sample
    content[int(place * (size - 1))] = ord("b")
    path.write_bytes(content)
    with closing(Input(str(path))) as source:
        after = source.sample

    if size <= 16 * 1024 * 1024 or place in {0.0, 1.0}:
        assert before != after


def test_file_that_becomes_shorter_is_no_early_end(tmp_path: Path) -> None:
    """A file that somebody cuts while it is read is an error, not the end of its rows."""
    path = tmp_path / "contacts.csv"
    path.write_bytes(b"contact_sid\n" * 100_000)

    with closing(Input(str(path))) as source:
        stream = source.stream()
        stream.read(10_000)
        os.truncate(path, 200_000)
        with pytest.raises(OSError, match="changed the file"):
            stream.read()


@pytest.mark.parametrize("change", [lambda path: os.truncate(path, 20_000), lambda path: os.utime(path, ns=(0, 0))])
def test_file_that_is_changed_while_it_is_read_is_no_end(tmp_path: Path, change: Callable[[Path], object]) -> None:
    """A file that still grows, or is written to in place, is an error at its end: who knows what else changed."""
    path = tmp_path / "contacts.csv"
    path.write_bytes(b"contact_sid\n" * 1000)

    with closing(Input(str(path))) as source:
        stream = source.stream()
        change(path)
        with pytest.raises(OSError, match="changed the file"):
            stream.read()
