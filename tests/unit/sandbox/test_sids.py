"""Sids in bulk."""

import pytest

from importer.sandbox import digest_of
from importer.sandbox.sids import batch_of, digest_text, key_of, sum_of
from tests.unit.sandbox.support import some_sids


@pytest.mark.parametrize(
    "sid", ["", "g" * 32, "a" * 31, "a" * 33, "ab " * 10 + "ab", " " * 32, "ä" * 32, "0x" + "a" * 30]
)
def test_what_is_not_32_hex_digits_is_malformed(sid: str) -> None:
    """A sid that is not 32 hexadecimal digits keeps its text as its key, alone and among good ones."""
    good = some_sids(1)[0]

    assert key_of(sid) == sid
    assert batch_of([good, sid]).keys == [bytes.fromhex(good), sid]
    assert batch_of([good, sid]).raw is None


def test_bulk_and_single_keys_agree() -> None:
    """A batch has for every sid the key that the sid has alone."""
    sids = some_sids(50)

    batch = batch_of(sids)

    assert [key_of(sid) for sid in sids] == list(batch.keys)
    assert batch.raw == b"".join(bytes.fromhex(sid) for sid in sids)


def test_case_makes_no_other_contact() -> None:
    """The same digits in the other case are a repetition."""
    sid = "ab" * 16

    assert batch_of([sid, sid.upper()]).repeated == 1


def test_digest_ignores_order_and_case() -> None:
    """The digest of the same sids is the same in any order and case."""
    sids = some_sids(100)

    assert digest_of(sids) == digest_of([sid.upper() for sid in reversed(sids)])


def test_digest_is_the_sum_of_the_numbers() -> None:
    """Anybody can compute the digest: a sum modulo 2**128, as 32 hexadecimal digits."""
    assert digest_of(["f" * 32, "0" * 31 + "3"]) == "0" * 31 + "2"


def test_bulk_sum_is_the_sum_of_the_numbers() -> None:
    """The sum over raw bytes and the digest of the sids agree."""
    sids = some_sids(1000)

    assert digest_of(sids) == digest_text(sum_of(bytes.fromhex("".join(sids))))
