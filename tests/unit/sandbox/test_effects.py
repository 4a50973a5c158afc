"""Every fault that changes what is processed or said, without sockets."""

import json
from collections import Counter
from typing import Any

import pytest

from importer.sandbox.engine import Ending
from tests.unit.sandbox.support import Rig, codes, named, some_sids

SIDS = some_sids(10)


def faulty(rule: str, more: str = "") -> Rig:
    return Rig(f"{{faults: [{{{rule}}}] {more}}}")


def changed(rule: str) -> tuple[list[Any], Rig]:
    """Return the items of an answer under one rule. Everything was added all the same."""
    rig = faulty(rule)
    items: list[Any] = rig.items(SIDS)
    assert rig.list_figures()["added"] == len(SIDS)
    return items, rig


@pytest.mark.parametrize(
    ("rule", "content_type", "start"),
    [
        ("status: 503", "application/json", b'{"request_id"'),
        ("status: 503, body: text", "text/plain", b"503 Service Unavailable"),
        ("status: 503, body: html", "text/html", b"<!DOCTYPE html>"),
        ("status: 503, body: empty", "application/json", b""),
    ],
)
def test_status_replaces_the_answer(rule: str, content_type: str, start: bytes) -> None:
    """A scripted status is not processed, and answered with the body asked for."""
    rig = faulty(rule + ", headers: {Retry-After: 3}")

    reply = rig.post(SIDS)

    assert (reply.status, reply.content_type, reply.headers) == (503, content_type, {"Retry-After": "3"})
    assert reply.body.startswith(start)
    assert rig.list_figures()["added"] == 0


def test_status_may_come_after_processing() -> None:
    """With `process: before`, the contacts are added and the client is told otherwise."""
    rig = faulty("status: 500, process: before")

    assert rig.post(SIDS).status == 500
    assert rig.list_figures()["added"] == 10


def test_status_after_processing_hides_no_refusal() -> None:
    """With `process: before`, a request that the API refuses is refused."""
    assert faulty("status: 500, process: before").post(b"{").status == 400


@pytest.mark.parametrize(
    ("status", "code"), [(401, 1010), (403, 1003), (404, 1000), (409, 1008), (500, 1100), (402, 1002)]
)
def test_scripted_envelopes_have_a_fitting_code(status: int, code: int) -> None:
    """The envelope of a scripted status carries the error code that goes with it."""
    answer = faulty(f"status: {status}").answer(SIDS)

    assert (answer["http_code"], answer["response"]["error_data"]["code"]) == (status, code)


def test_a_scripted_success_is_possible() -> None:
    """A 202 that says nothing of any contact can be scripted."""
    answer = faulty("status: 202").answer(SIDS)

    assert (answer["http_code"], answer["response"]["status"]) == (202, "success")


def test_delays_add_up() -> None:
    """Delays of several rules and the latency add up, after processing."""
    rig = Rig("{latency: {median_seconds: 1}, faults: [{delay_seconds: 2}, {delay_seconds: 3}]}")

    assert rig.post(SIDS).delay_seconds == 6.0
    assert rig.list_figures()["added"] == 10


def test_reset_after_processing() -> None:
    """A reset after processing leaves the contacts added and says nothing."""
    rig = faulty("reset: after")

    assert rig.post(SIDS).ending is Ending.RESET
    assert rig.list_figures()["added"] == 10
    assert rig.engine.snapshot()["by_status"] == {"reset": 1}


@pytest.mark.parametrize(("length", "ending"), [("short", Ending.COMPLETE), ("full", Ending.CUT)])
def test_truncate_cuts_the_body(length: str, ending: Ending) -> None:
    """A cut body is announced with its own length (broken JSON) or the whole one's (a transport error)."""
    whole = len(Rig().post(SIDS).body)

    reply = faulty(f"truncate: 0.5, content_length: {length}").post(SIDS)

    assert (reply.ending, len(reply.body)) == (ending, whole // 2)
    assert reply.announced_length == (whole // 2 if length == "short" else whole)


@pytest.mark.parametrize("kind", ["html", "text", "empty"])
def test_not_json_keeps_the_status(kind: str) -> None:
    """The request is processed and the status is true, but the body is none."""
    rig = faulty(f"not_json: {kind}")

    reply = rig.post(SIDS)

    assert reply.status == 207
    with pytest.raises(json.JSONDecodeError):
        json.loads(reply.body)
    assert rig.list_figures()["added"] == 10


def test_missing_items() -> None:
    """Items are left out, in number or share; the metadata still counts all."""
    items, _ = changed("items: missing, fraction: 0.3")
    alone, _ = changed("items: missing")

    assert (len(items), len(alone)) == (7, 9)
    assert set(named(items)) < set(SIDS)
    assert faulty("items: missing, count: 2").answer(SIDS)["metadata"]["total"] == 10


def test_recount_makes_the_lie_consistent() -> None:
    """With `recount`, the metadata agrees with the items that are left."""
    answer = faulty("items: missing, count: 2, recount: true").answer([*SIDS, "odd"])

    assert answer["metadata"]["total"] == len(answer["response"]) == 9
    assert answer["metadata"]["success"] == codes(answer["response"]).count(200)


def test_shuffled_items() -> None:
    """The items are all there in another order, even if there are only two."""
    items, _ = changed("items: shuffled")

    assert named(items) != SIDS
    assert sorted(SIDS) == sorted(str(sid) for sid in named(items))
    for seed in range(5):
        pair = some_sids(2, seed)
        assert named(faulty("items: shuffled").items(pair)) == pair[::-1]


def test_doubled_items() -> None:
    """Some items come twice."""
    items, _ = changed("items: doubled, count: 2")

    assert sorted(Counter(named(items)).values()) == [1] * 8 + [2] * 2


def test_foreign_items() -> None:
    """Some items name a contact that nobody asked for, in the place of one that somebody did."""
    items, _ = changed("items: foreign, count: 2")

    assert len(items) == 10
    assert len(set(named(items)) - set(SIDS)) == 2


def test_surplus_items() -> None:
    """Items about strangers come on top."""
    items, _ = changed("items: surplus, count: 2")

    assert named(items)[:10] == SIDS
    assert len(set(named(items)) - set(SIDS)) == 2


def test_null_data() -> None:
    """Even a success may name nobody."""
    items, _ = changed("items: null_data")

    assert (codes(items), named(items)) == ([200] * 10, [None] * 10)


def test_capital_sid() -> None:
    """The key is spelt `Sid`."""
    items, _ = changed("items: capital_sid")

    assert [item["data"]["Sid"] for item in items] == SIDS
    assert not any("sid" in item["data"] for item in items)


def test_flat_items() -> None:
    """Code, status and the contact's fields stand side by side."""
    items, _ = changed("items: flat")

    assert [(item["code"], item["status"], item["sid"]) for item in items] == [(200, "success", sid) for sid in SIDS]
    assert not any("data" in item for item in items)


def test_bare_items() -> None:
    """As in the vendor's broken sample: no code, no status, no wrapper, and `Sid`."""
    items, _ = changed("items: bare")

    assert [item["Sid"] for item in items] == SIDS
    assert not {"code", "status", "data"} & items[0].keys()


def test_recased_items() -> None:
    """The sids come back in the other case."""
    items, _ = changed("items: recased")

    assert named(items) == [sid.upper() for sid in SIDS]


def test_garbage_items() -> None:
    """Items that are no items."""
    items, _ = changed("items: garbage, count: 6")

    assert sum(isinstance(item, dict) and "code" in item for item in items) == 4


def test_item_effects_compose_in_order() -> None:
    """Several effects on items apply one after the other, also to what the earlier ones left."""
    rig = Rig("faults: [{items: garbage}, {items: flat}, {items: capital_sid}, {items: recased}, {items: bare},"
              " {items: foreign}, {items: null_data, recount: true}]")  # fmt: skip

    answer = rig.answer(SIDS)

    assert answer["metadata"] == {"failed": 10, "total": 10, "success": 0}
    assert rig.list_figures()["added"] == 10


@pytest.mark.parametrize(("code", "error"), [(409, 1008), (429, 1002), (500, 1100), (503, 1100)])
def test_item_code_is_not_processed(code: int, error: int) -> None:
    """Items with a scripted code are not added, and can be asked for again."""
    rig = faulty(f"requests: 1, item_code: {code}, fraction: 0.4")

    answer = rig.answer(SIDS)

    assert Counter(codes(answer["response"])) == {200: 6, code: 4}
    assert {item["error_data"]["code"] for item in answer["response"] if item["code"] == code} == {error}
    assert answer["metadata"] == {"failed": 4, "total": 10, "success": 6}
    assert rig.list_figures()["added"] == 6
    assert Counter(codes(rig.items(SIDS))) == {409: 6, 200: 4}


def test_item_code_may_be_processed() -> None:
    """With `processed`, the contact is added and its item says otherwise."""
    rig = faulty("item_code: 500, processed: true")

    assert codes(rig.items(SIDS)) == [500] * 10
    assert rig.list_figures()["added"] == 10


@pytest.mark.parametrize(
    ("kind", "expected"), [("object", dict), ("null", type(None)), ("text", str), ("missing", None)]
)
def test_response_that_is_no_list(kind: str, expected: type | None) -> None:
    """`response` may be anything but the list that was promised."""
    answer = faulty(f"response: {kind}").answer(SIDS)

    assert (type(answer["response"]) if "response" in answer else None) is expected


def test_metadata_that_contradicts() -> None:
    """Metadata may contradict the items, be null, or be missing."""
    assert faulty("metadata: wrong").answer(SIDS)["metadata"]["total"] == 7
    assert faulty("metadata: null").answer(SIDS)["metadata"] is None
    assert faulty("metadata: 'null'").answer(SIDS)["metadata"] is None
    assert "metadata" not in faulty("metadata: missing").answer(SIDS)


def test_http_code_that_contradicts() -> None:
    """The body's code need not be the status line's."""
    reply = faulty("http_code: 200").post(SIDS)

    assert (reply.status, json.loads(reply.body)["http_code"]) == (207, 200)


def test_redirect_is_not_processed() -> None:
    """A redirect names its target and adds nobody."""
    rig = faulty("redirect: 'http://127.0.0.1:9/x', redirect_status: 302")

    reply = rig.post(SIDS)

    assert (reply.status, reply.headers) == (302, {"Location": "http://127.0.0.1:9/x"})
    assert rig.list_figures()["added"] == 0


def test_a_huge_answer_is_well_formed() -> None:
    """The answer is padded to many bytes, and still true."""
    reply = faulty("huge_answer: 3000000").post(SIDS)

    assert len(reply.body) > 3_000_000
    assert named(json.loads(reply.body)["response"]) == SIDS


def test_a_slow_body_is_dribbled() -> None:
    """The reply says over how many seconds and in how many pieces it is to be sent."""
    reply = faulty("slow_body: 4, chunks: 8").post(SIDS)

    assert (reply.slow_seconds, reply.chunks) == (4.0, 8)


def test_the_limit_comes_before_faults() -> None:
    """A request beyond the limit gets its 429, whatever is scripted for it."""
    rig = faulty("status: 503", ", limit: {requests_per_minute: 1}")

    assert [rig.post(SIDS).status, rig.post(SIDS).status] == [503, 429]


def test_an_outage_by_the_clock() -> None:
    """A rule with times applies between them, on the clock that starts with the first connection."""
    rig = faulty("from_seconds: 10, until_seconds: 20, status: 503, body: empty")
    statuses = []
    for at in (0, 9.9, 10, 19.9, 20):
        rig.now = 1000.0 + at
        statuses.append(rig.post(SIDS).status)

    assert statuses == [207, 207, 503, 503, 207]
