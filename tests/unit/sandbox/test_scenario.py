"""Reading scenarios."""

import dataclasses
from pathlib import Path

import pytest

from importer.sandbox import DEFAULT_LIST, Population, Scenario, ScenarioError, bundled_scenarios
from importer.sandbox.effects import EFFECTS, Items, Match, Rule, Status


def test_an_empty_scenario_is_the_default() -> None:
    """An empty file changes nothing."""
    assert Scenario.from_text("") == Scenario()


def test_defaults_are_the_documented_ones() -> None:
    """The credentials and the list that everybody relies on."""
    scenario = Scenario()

    assert (scenario.account_sid, scenario.api_key, scenario.api_token) == ("sandbox", "sandbox-key", "sandbox-token")
    assert scenario.lists == (DEFAULT_LIST,)
    assert scenario.limit.requests_per_minute is None
    assert scenario.latency.median_seconds == 0.0


def test_every_section_is_read() -> None:
    """Values reach their fields."""
    scenario = Scenario.from_text("""
        seed: 9
        lists: [one, two]
        population: {seed: 2, member: 0.5}
        api: {max_contacts: 10, member_data: full, poison: {sids: [x], sinks: false}}
        limit: {requests_per_minute: 30, retry_after: -5, changes: [{at_seconds: 300, requests_per_minute: 15}]}
        latency: {median_seconds: 1, spread: 0.5}
        ledger: {remember_contacts: false}
        faults:
          - {requests: [3, "10-20"], times: 2, status: 503, body: html, headers: {Retry-After: 7}}
          - {every: 7, from_seconds: 60, items: missing, fraction: 0.25}
    """)

    assert scenario.population == Population(seed=2, member=0.5)
    assert scenario.api.poison.sids == ("x",)
    assert scenario.limit.retry_after == -5
    assert scenario.limit.changes[0].requests_per_minute == 15
    assert scenario.faults == (
        Rule(
            Match(requests=((3, 3), (10, 20)), times=2),
            Status(status=503, body="html", headers={"Retry-After": 7}),
        ),
        Rule(Match(every=7, from_seconds=60), Items(items="missing", fraction=0.25)),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sed: 1", "night.yaml: sed is no key of a scenario; known are seed,"),
        ("seed: many", "night.yaml: seed: expected `int`, got `str`"),
        ("[1]", "night.yaml: must be a mapping of keys to values, got list"),
        ("a: [", "night.yaml: not valid YAML"),
        ("population: {membr: 1}", "night.yaml: population: object contains unknown field `membr`"),
        ("population: {member: 1.5}", "night.yaml: population.member: expected `float` <= 1.0"),
        ("population: {member: 0.6, unknown: 0.6}", "night.yaml: population: the shares"),
        ("api: {already_member: 410}", "night.yaml: api.already_member: invalid enum value 410"),
        ("limit: {changes: [{at_seconds: 1}]}", "night.yaml: limit.changes[0]: object missing required field"),
        ("faults: {}", "night.yaml: faults must be a list of rules"),
        ("faults: [{}]", "night.yaml: faults[0] must name exactly one effect, found none"),
        ("faults: [5]", "night.yaml: faults[0] must be a mapping"),
        (
            "faults: [{status: 503, reset: after}]",
            "night.yaml: faults[0] must name exactly one effect, found status, reset",
        ),
        ("faults: [{status: 503, bdy: html}]", "night.yaml: faults[0]: object contains unknown field `bdy`"),
        ("faults: [{status: 99}]", "night.yaml: faults[0].status: expected `int` >= 200"),
        ("faults: [{status: 503}, {items: gone}]", "night.yaml: faults[1].items: invalid enum value 'gone'"),
        ("faults: [{items: missing, count: 1, fraction: 0.5}]", "night.yaml: faults[0]: give fraction or count"),
        ("faults: [{status: 503, requests: 0}]", "night.yaml: faults[0].requests: 0 is neither a request number"),
        ("faults: [{status: 503, requests: '5-3'}]", "night.yaml: faults[0].requests: '5-3' is neither"),
        ("faults: [{status: 503, chance: 2}]", "night.yaml: faults[0].chance: expected `float` <= 1.0"),
        ("faults: [{refuse_connections: true, every: 2}]", "night.yaml: faults[0]: refuse_connections goes by"),
    ],
)
def test_errors_name_file_and_key(text: str, sentence: str) -> None:
    """What is wrong in a scenario is said with the file and the key."""
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_text(text, origin="night.yaml")

    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", bundled_scenarios())
def test_bundled_scenarios_can_be_named(name: str) -> None:
    """Every scenario that comes with the sandbox loads by its bare name."""
    assert Scenario.load(name) != Scenario()


def test_a_scenario_loads_from_a_path(tmp_path: Path) -> None:
    """A scenario file is read from where it lies."""
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 5")

    assert Scenario.load(path) == dataclasses.replace(Scenario(), seed=5)
    assert Scenario.load(str(path)).seed == 5


def test_a_missing_scenario_names_what_there_is(tmp_path: Path) -> None:
    """A name that is neither a file nor a bundled scenario is answered with the bundled names."""
    with pytest.raises(ScenarioError, match=r"nightmare: cannot read .* one of: calm, .*rough-night"):
        Scenario.load("nightmare")
    with pytest.raises(ScenarioError, match="cannot read"):
        Scenario.load(tmp_path)


def test_every_effect_is_named_by_one_of_its_own_keys() -> None:
    """The key that names an effect is a field of it, and no other effect has it."""
    for key, effect in EFFECTS.items():
        owners = [other for other in EFFECTS.values() if key in other.__struct_fields__]
        assert owners == [effect]
