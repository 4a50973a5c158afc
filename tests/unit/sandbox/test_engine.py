"""The rules of the API, without sockets and under a clock that the tests move."""

import json

import pytest

from importer.sandbox import DEFAULT_LIST, Scenario, Standing, bundled_scenarios
from tests.unit.sandbox.support import Rig, body_of, codes, named, some_sids

OTHER_LIST = "0" * 32


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, 1007),
        (b"{", 400, 1007),
        (b"\xff\xfe", 400, 1007),
        (b'{"contact_references":[{"contact_sid":"\xff"}]}', 400, 1007),
        (b"[" * 100_000, 400, 1007),
        (b"{}", 400, 1001),
        (b"[]", 400, 1001),
        (b"null", 400, 1001),
        (b'{"contact_references":null}', 400, 1001),
        (b'{"contact_references":{}}', 400, 1002),
        (b'{"contact_references":"x"}', 400, 1002),
        (b'{"contact_references":[]}', 400, 1001),
        (b'{"contact_references":[5]}', 400, 1001),
        (b'{"contact_references":[null]}', 400, 1001),
        (b'{"contact_references":[{"sid":"x"}]}', 400, 1001),
        (b'{"contact_references":[{"contact_sid":5}]}', 400, 1002),
        (b'{"contact_references":[{"contact_sid":null}]}', 400, 1002),
        (body_of(["x"] * 5001), 400, 1002),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_a_body_that_is_not_as_documented(body: bytes, status: int, code: int) -> None:
    """Each breach of the body is refused as a whole, with its code in the vendor's envelope, and nothing is added."""
    rig = Rig()

    reply = rig.post(body)

    answer = json.loads(reply.body)
    assert (reply.status, answer["http_code"]) == (status, status)
    assert answer["response"]["error_data"]["code"] == code
    assert (answer["response"]["status"], answer["response"]["data"]) == ("failure", None)
    assert rig.list_figures()["added"] == 0


@pytest.mark.parametrize(
    ("arguments", "api", "status", "code"),
    [
        ({"authorization": ""}, "", 401, 1010),
        ({"authorization": "Bearer x"}, "", 401, 1010),
        ({"authorization": "Basic eDp5"}, "", 401, 1010),
        ({"account": "another"}, "", 401, 1010),
        ({"account": "another"}, "wrong_account: 403", 403, 1003),
        ({"list_sid": OTHER_LIST}, "", 404, 1000),
        ({"list_sid": OTHER_LIST}, "unknown_list: 403", 403, 1003),
        ({"content_type": "text/plain"}, "", 415, 1011),
        ({"content_type": ""}, "", 415, 1011),
    ],
)
def test_a_breach_around_the_body(arguments: dict[str, str], api: str, status: int, code: int) -> None:
    """Credentials, account, list and content type are judged before the body, and answered as documented."""
    rig = Rig(f"api: {{{api}}}")

    reply = rig.post(some_sids(2), **arguments)

    answer = json.loads(reply.body)
    assert (reply.status, answer["response"]["code"], answer["response"]["error_data"]["code"]) == (
        status, status, code,
    )  # fmt: skip
    assert rig.list_figures()["added"] == 0


def test_too_many_can_be_413() -> None:
    """The status for more contacts than allowed is a setting, and so is their number."""
    rig = Rig("api: {max_contacts: 3, too_many: 413}")

    assert [rig.post(some_sids(3)).status, rig.post(some_sids(4)).status] == [207, 413]


def test_content_type_may_have_parameters() -> None:
    """A charset is no breach, and case does not matter."""
    assert Rig().post(some_sids(1), content_type="Application/JSON; charset=utf-8").status == 207


def test_an_answer_is_as_documented() -> None:
    """Envelope, metadata and a success item have the documented fields, with the sid as it was sent."""
    sid = "AB" * 16

    answer = Rig().answer([sid])

    assert (answer["method"], answer["http_code"]) == ("POST", 207)
    assert answer["metadata"] == {"failed": 0, "total": 1, "success": 1}
    assert len(answer["request_id"]) == 32
    assert answer["response"] == [{
        "code": 200, "error_data": None, "status": "success",
        "data": {
            "sid": sid,
            "date_created": "2030-01-01T12:00:00.000000000+00:00",
            "date_updated": "2030-01-01T12:00:00.000000000+00:00",
            "account_sid": "sandbox",
            "list_id": DEFAULT_LIST,
            "uri": f"/v2/Accounts/sandbox/contacts/{sid}",
        },
    }]  # fmt: skip


def test_both_ways_of_writing_an_answer_agree() -> None:
    """Items written all at once are those written one by one."""
    sids = some_sids(20)

    at_once, one_by_one = Rig().answer(sids), Rig("faults: [{delay_seconds: 1}]").answer(sids)

    assert at_once == one_by_one


def test_every_item_tells_its_standing() -> None:
    """Items come in the order of the request, each with the code of its contact's standing."""
    rig = Rig("population: {seed: 3, member: 0.2, unknown: 0.2, refused: 0.2}")
    sids = [*some_sids(200), "malformed", ""]
    expected = {
        Standing.ADDABLE: (200, None),
        Standing.MEMBER: (409, 1008),
        Standing.UNKNOWN: (404, 1000),
        Standing.REFUSED: (400, 1002),
        Standing.MALFORMED: (400, 1002),
    }
    standings = [rig.scenario.population.standing(sid) for sid in sids]

    answer = rig.answer(sids)

    items = answer["response"]
    told = [(item["code"], item["error_data"] and item["error_data"]["code"]) for item in items]
    assert [expected[standing] for standing in standings] == told
    added = standings.count(Standing.ADDABLE)
    assert answer["metadata"] == {"failed": 202 - added, "total": 202, "success": added}
    assert {item["data"] is None for item in items if item["code"] != 200} == {True}
    assert rig.list_figures()["added"] == added
    assert rig.list_figures()["members_before"] == standings.count(Standing.MEMBER)


def test_what_was_added_is_a_member_afterwards() -> None:
    """A contact that the sandbox has added is told to be there, in either case of its digits."""
    rig = Rig()
    old, new = some_sids(2)
    rig.post([old])

    assert codes(rig.items([old.upper(), new])) == [409, 200]
    assert rig.list_figures()["added"] == 2


def test_lists_are_apart() -> None:
    """What one list has, the other has not."""
    rig = Rig("lists: [one, two]")
    sids = some_sids(1)

    first, second = rig.post(sids, list_sid="one"), rig.post(sids, list_sid="two")

    assert codes(json.loads(first.body)["response"]) == codes(json.loads(second.body)["response"]) == [200]
    assert [book["added"] for book in rig.engine.snapshot()["lists"].values()] == [1, 1]


@pytest.mark.parametrize(
    ("api", "code", "names_the_sid"),
    [("", 409, False), ("member_data: full", 409, True), ("already_member: 200", 200, True)],
)
def test_members_are_told_as_the_scenario_says(api: str, code: int, *, names_the_sid: bool) -> None:
    """A member is an item 409 without or with its data, or a success."""
    rig = Rig(f"api: {{{api}}}")
    sid = some_sids(1)[0]
    rig.post([sid])

    items = rig.items([sid])

    assert codes(items) == [code]
    assert named(items) == [sid if names_the_sid else None]


def test_failed_items_can_name_their_sid() -> None:
    """With `failed_data: sid`, a failed item says which contact it is about, even a malformed one."""
    rig = Rig("{population: {unknown: 1}, api: {failed_data: sid, unknown_contact: 400}}")
    sids = [*some_sids(1), 'odd "one"']

    items = rig.items(sids)

    assert (codes(items), named(items)) == ([400, 400], sids)


def test_a_repetition_within_a_request_is_a_duplicate() -> None:
    """The first reference is processed, the second gets a 409, and the ledger counts it."""
    rig = Rig()
    one, two = some_sids(2)

    assert codes(rig.items([one, two, one.upper()])) == [200, 200, 409]
    assert rig.list_figures()["repeated_within_a_request"] == 1
    assert rig.list_figures()["added"] == 2
    assert rig.list_figures()["contacts_sent_more_than_once"] == 0


def test_all_well_can_be_200() -> None:
    """With `all_ok_status: 200`, only an answer with a failed item is 207."""
    rig = Rig("api: {all_ok_status: 200}")
    sids = some_sids(2)

    assert [rig.post(sids).status, rig.post(sids).status] == [200, 207]


def test_a_malformed_sid_can_sink_the_request() -> None:
    """With `malformed: request`, nothing is added and the position is named."""
    rig = Rig("api: {malformed: request}")

    reply = rig.post([*some_sids(2), "short"])

    assert reply.status == 400
    assert b"contact_references[2].contact_sid" in reply.body
    assert rig.list_figures()["added"] == 0


def test_a_full_list_takes_no_more() -> None:
    """At the cap, further contacts are refused one by one, members stay members, and the ledger has the cap."""
    rig = Rig("api: {list_cap: 3, list_cap_code: 422}")
    sids = some_sids(5)

    assert codes(rig.items(sids[:2])) == [200, 200]
    assert codes(rig.items(sids)) == [409, 409, 200, 422, 422]
    assert rig.list_figures()["added"] == 3


@pytest.mark.parametrize(("names", "is_named"), [("true", True), ("false", False)])
def test_poison_sinks_the_request(names: str, *, is_named: bool) -> None:
    """A poisonous contact makes the whole request 400, named or not; without it the rest is taken."""
    sids = some_sids(4)
    rig = Rig(f"api: {{poison: {{sids: ['{sids[2].upper()}'], names_the_sid: {names}}}}}")

    sunk = rig.post(sids)

    assert sunk.status == 400
    assert (sids[2].encode() in sunk.body) == is_named
    assert rig.list_figures()["added"] == 0
    assert rig.post(sids[:2]).status == rig.post(sids[3:]).status == 207
    assert rig.list_figures()["added"] == 3


def test_poison_that_does_not_sink_is_refused_alone() -> None:
    """With `sinks: false`, only the poisonous item fails."""
    sids = some_sids(3)
    rig = Rig(f"api: {{poison: {{sids: ['{sids[1]}'], sinks: false}}}}")

    assert codes(rig.items(sids)) == [200, 400, 200]


def test_poison_by_chance_keeps_its_share() -> None:
    """The seeded share of poison is about what the scenario says, and always the same contacts."""
    scenario = "api: {poison: {chance: 0.1, sinks: false}}"
    sids = some_sids(5000)

    refused = codes(Rig(scenario).items(sids))

    assert refused.count(400) / 5000 == pytest.approx(0.1, abs=0.02)
    assert refused == codes(Rig(scenario).items(sids))


def test_beyond_the_limit_nothing_is_processed() -> None:
    """A 429 adds nothing, carries the headers, and comes in two shapes of body that are no envelope."""
    rig = Rig("limit: {requests_per_minute: 1}")
    sids = some_sids(1)

    first, second, third = rig.post(sids), rig.post(some_sids(1, seed=2)), rig.post(sids)

    assert [first.status, second.status, third.status] == [207, 429, 429]
    assert first.headers == {"X-RateLimit-Limit": "1", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "60"}
    assert second.headers["Retry-After"] == "60"
    assert "RestException" in json.loads(second.body)
    assert json.loads(third.body)["error"] == "Too Many Requests"
    assert rig.list_figures()["added"] == 1
    assert rig.engine.snapshot()["throttled"] == 2
    rig.now += 60
    assert rig.post(some_sids(1, seed=2)).status == 207


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("seconds", "51"), ("date", "Tue, 01 Jan 2030 12:01:01 GMT"), ("none", None), ("null", None), ("0", "0"),
        ("-5", "-5"), ("soon", "soon"), ("1e9", "1e9"),
    ],
)  # fmt: skip
def test_retry_after_is_what_the_scenario_says(setting: str, expected: str | None) -> None:
    """Seconds and dates are rounded up; anything else is sent as it stands."""
    rig = Rig(f"limit: {{requests_per_minute: 1, retry_after: {setting}, headers: false}}")
    rig.now += 0.5
    rig.post(some_sids(1))
    rig.now += 9.6

    reply = rig.post(some_sids(1))

    assert reply.headers == ({} if expected is None else {"Retry-After": expected})


def test_the_reset_header_can_be_a_moment() -> None:
    """X-RateLimit-Reset counts seconds, or names the moment in seconds since 1970."""
    rig = Rig("limit: {requests_per_minute: 5, reset_header: epoch}")

    assert rig.post(some_sids(1)).headers["X-RateLimit-Reset"] == "1893499260"


def test_strangers_do_not_fill_the_window() -> None:
    """A request with wrong credentials is refused without counting against the limit."""
    rig = Rig("limit: {requests_per_minute: 1}")

    assert rig.post(some_sids(1), authorization="x").status == 401
    assert rig.post(some_sids(1)).status == 207


def test_latency_is_drawn_by_request_number() -> None:
    """The same request waits as long in every life; the median and the spread are the scenario's."""
    text = "latency: {median_seconds: 2, spread: 0.5}"
    delays = [reply.delay_seconds for rig in [Rig(text)] for reply in [rig.post(b"") for _ in range(301)]]

    assert delays == [reply.delay_seconds for rig in [Rig(text)] for reply in [rig.post(b"") for _ in range(301)]]
    assert sorted(delays)[150] == pytest.approx(2.0, rel=0.15)
    assert sorted(delays)[285] == pytest.approx(2.0 * 2.28, rel=0.25)
    assert {Rig("latency: {median_seconds: 2}").post(b"").delay_seconds} == {2.0}


@pytest.mark.parametrize("name", bundled_scenarios())
def test_equal_scenarios_answer_alike(name: str) -> None:
    """Two sandboxes with the same scenario give the same replies to the same requests, and add the same contacts."""
    scenario = Scenario.load(name)
    first, second = Rig(scenario), Rig(scenario)

    for seed in range(60):
        sids = some_sids(20, seed)
        assert first.post(sids) == second.post(sids)
        first.now = second.now = first.now + 1.5

    assert first.engine.snapshot() == second.engine.snapshot()
    assert 0 < first.list_figures()["added"] <= 60 * 20


def test_a_reset_forgets_everything() -> None:
    """After a reset, numbers, members and the limit begin anew."""
    rig = Rig("limit: {requests_per_minute: 1}")
    sids = some_sids(1)
    rig.post(sids)

    rig.engine.reset()

    assert codes(rig.items(sids)) == [200]
    assert rig.engine.snapshot()["requests"] == 1
