"""Scenario files: overrides, refused values, independent populations, and parameters drawn from their ranges."""

import math
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from callsieve.training.world import load_scenario, simulate
from callsieve.training.world.basis.draws import stream
from callsieve.training.world.basis.scenario import NAMED, Scenario
from callsieve.training.world.basis.variation import range_of, shipped_variation, vary
from tests.support.calls.worlds import (
    CLEAN,
    HOUR,
    NUISANCE,
    OUTFITS,
    SHIPPED_SCENARIO,
    TRADES,
    scenario_of,
    small_world,
    text_values,
    timestamps,
)
from tests.support.errors import refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[people]\nsociable = 1.0", "unknown key people.sociable"),
        ("[outfit.robot]\nrate = 3", "unknown key outfit"),
        ("[people.manner.ring]\nmedian = '8'", "people.manner.ring.median must be a number, got '8'"),
        ("[sizes.tiny]\ndays = 2.5", "sizes.tiny.days must be a whole number"),
        ("[sizes.tiny]\ndays = 0", "sizes.tiny.days must be 1 or more"),
        ("[sizes]\ntiny = 3", "sizes.tiny must be a table"),
        ("[outfits.robot]\nnuisance = 1", "outfits.robot.nuisance must be true or false"),
        ("[people.manner]\nanswer_share = 1.2", "people.manner.answer_share must be between 0 and 1"),
        ("[people]\nreach_sigma = -1.0", "people.reach_sigma must be 0 or more"),
        ("[people]\nreach_sigma = nan", "people.reach_sigma must be 0 or more"),
        ("[work.courier]\nhours = [8.0, 19.0]", "work.courier.hours must hold 4 values, got 2"),
        ("[work.courier]\nhours = [8.0, 19.0, 'noon', 13.0]", "work.courier.hours must be a number"),
        ("[calendar]\nholidays = ['May']", "calendar.holidays must be a list of dates"),
        ("[calendar]\nstart = 'Monday'", "calendar.start must be a date"),
        ("people = ", "expected a TOML file"),
    ],
)
def test_invalid_scenarios_are_refused_in_one_line(text, message):
    with refused(r"scenario\.toml") as error:
        scenario_of(text)
    assert message in str(error.value)


def test_a_scenario_overrides_shipped_values():
    hours = "[work.courier]\nhours = [8, 19.5, 1, 13.0]\n"
    scenario = scenario_of(f"[sizes.tiny]\ndays = 9\n[people.manner]\nanswer_share = 0\n{hours}")
    assert scenario.table("work.courier")["hours"] == [8, 19.5, 1, 13.0]
    world = simulate(scenario, 1, "tiny")
    assert int(world.facts["end"]) - int(world.facts["start"]) == 9 * 24 * HOUR
    assert scenario.table("sizes.tiny")["subscribers"] == load_scenario().table("sizes.tiny")["subscribers"]
    assert world.facts["scenario"] != load_scenario().fingerprint
    friends = text_values(world.truth, "slice") == "elsewhere"
    assert (text_values(world.calls, "outcome")[friends] == "answered").mean() < 0.35


def test_switching_off_a_population_changes_no_other():
    text = f"{CLEAN}[outfits.low_and_slow]\ncalls_per_1000 = 0.0\n"
    world, without = small_world(), simulate(scenario_of(text), 1, "tiny")
    assert "low_and_slow" not in set(text_values(without.truth, "slice"))
    for name in ("courier", "robot", "fraud_ring"):
        before = timestamps(world.calls, "start")[text_values(world.truth, "slice") == name]
        after = timestamps(without.calls, "start")[text_values(without.truth, "slice") == name]
        assert len(np.intersect1d(before, after)) > 0.98 * len(before)


def test_all_nuisance_and_special_populations_can_be_switched_off():
    off = "".join(f"[outfits.{name}]\ncalls_per_1000 = 0.0\n" for name in OUTFITS)
    kinds = SHIPPED_SCENARIO.table("people.kinds")
    off += "".join(f"[people.kinds.{name}]\nshare = 0.0\nleast = 0\n" for name in kinds)
    world = simulate(scenario_of(f"{off}[sizes.tiny]\ndays = 4\n[complaints.malicious]\nvictims = 0\n"), 1, "tiny")
    assert set(text_values(world.truth, "slice")) == {"ordinary", "elsewhere"}
    assert not world.truth["nuisance"].to_numpy().any()
    assert world.complaints.num_rows == 0


@pytest.mark.system
@pytest.mark.parametrize("mode", ["human", "recording", "one_ring", "bombing"])
def test_every_content_occurs_in_every_mode(mode):
    """12321 classifies by content and by mode; every content can occur in every mode."""
    name = next(name for name, outfit in OUTFITS.items() if outfit["mode"] == mode)
    for content in ("insurance", "travel"):
        weights = dict.fromkeys(OUTFITS["telemarketer"]["content"], 0.0) | {content: 1.0}
        text = ", ".join(f"{key} = {weight}" for key, weight in weights.items())
        scenario = scenario_of(f"{CLEAN}[sizes.tiny]\ndays = 5\n[outfits.{name}]\ncontent = {{ {text} }}\n")
        truth = simulate(scenario, 1, "tiny").truth
        rows = text_values(truth, "slice") == name
        assert rows.any()
        assert set(text_values(truth, "content")[rows]) == {content}
        assert set(text_values(truth, "mode")[rows]) == {mode}


def test_every_population_has_its_own_random_stream():
    first = {name: stream(1, name).random() for name in (*TRADES, *OUTFITS, "people", "ties", "lists", "reports")}
    assert len(set(first.values())) == len(first)
    assert stream(1, "robot").random() == first["robot"] != stream(2, "robot").random()


def test_a_population_inherits_all_values_that_it_does_not_set():
    robot, jittered = OUTFITS["robot"], OUTFITS["jittered"]
    assert "like" not in jittered
    assert set(robot) == set(jittered)
    assert jittered["pace_sigma"] > robot["pace_sigma"]
    assert jittered["hours"] == robot["hours"]
    assert OUTFITS["bank_risk"]["pool"] == {"service_95": 1.0}, "an override replaces all weights"
    driver, takeaway = (SHIPPED_SCENARIO.table(f"work.{name}.manner") for name in ("driver", "takeaway"))
    assert driver["ring"] == takeaway["ring"]


@pytest.mark.parametrize("name", NAMED)
def test_shipped_scenarios_load_by_their_name(name):
    scenario = load_scenario(Path(name))
    assert scenario.fingerprint != SHIPPED_SCENARIO.fingerprint


def test_an_unknown_file_is_refused():
    with pytest.raises(OSError, match="nowhere"):
        load_scenario(Path("nowhere.toml"))


def shipped(name):
    return resources.files("callsieve.training.world.basis").joinpath(name).read_text(encoding="utf-8")


def test_a_population_calls_less_after_a_shock():
    text = f"{CLEAN}[calendar]\nshock_day = 14\n[outfits.robot]\nafter_shock_share = 0.1\ncalls_per_1000 = 120.0\n"
    world = simulate(scenario_of(text), 3, "tiny")
    day = (timestamps(world.calls, "start") - int(world.facts["start"])) // (24 * HOUR)
    robot = day[text_values(world.truth, "slice") == "robot"]
    assert (robot < 14).sum() > 4 * (robot >= 14).sum()
    ordinary = day[text_values(world.truth, "slice") == "ordinary"]
    assert 0.7 < (ordinary < 14).sum() / (ordinary >= 14).sum() < 1.4


@pytest.mark.system
def test_a_crackdown_reduces_the_calls_of_the_trade():
    """12321: complaints fell by 53 to 83 %; daily calls of the trade vary far less."""
    size = "[sizes.tiny]\nsubscribers = 3000\ndays = 24\n"
    world = simulate(scenario_of(shipped("crackdown.toml") + size), 1, "tiny")
    day = (timestamps(world.calls, "start") - int(world.facts["start"])) // (24 * HOUR)
    nuisance = world.truth["nuisance"].to_numpy()
    assert 0.1 < nuisance[day < 17].mean() < 0.3  # Hiya, First Orion, TNS
    trade = np.isin(text_values(world.truth, "slice"), ("robot", "telemarketer", "jittered"))
    calls = np.bincount(day[trade], minlength=24)
    working = np.flatnonzero(np.arange(24) % 7 < 5)
    before, after = np.log(calls[working[working < 17]]), np.log(calls[working[working >= 17]])
    assert 0.17 < np.exp(after.mean() - before.mean()) < 0.47
    assert after.max() < before.mean() - 3 * before.std()


@pytest.mark.system
def test_the_trade_calls_less_at_the_spring_festival():
    """360: a fall of 17.7 % in its week, against the weeks around it."""
    many = "".join(f"[outfits.{name}]\ncalls_per_1000 = 200.0\n" for name in ("telemarketer", "fraud_ring"))
    text = shipped("spring_festival.toml")
    scenario = scenario_of("\n".join([text, CLEAN, "[sizes.tiny]\nsubscribers = 600\ndays = 35\n", many]))
    calls = np.zeros(35)
    for seed in range(1, 5):  # single campaigns dominate a village, so four are summed
        world = simulate(scenario, seed, "tiny")
        day = (timestamps(world.calls, "start") - int(world.facts["start"])) // (24 * HOUR)
        calls += np.bincount(day[world.truth["nuisance"].to_numpy()], minlength=35)
    festival, around = calls[15:22].mean(), np.concatenate((calls[1:15], calls[24:31])).mean()
    assert 0.65 < festival / around < 0.95


# Varied worlds


SCENARIO = load_scenario()
RANGES = shipped_variation().range


def leaves(table, prefix=""):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


DEFAULTS = dict(leaves(SCENARIO.values))


def callers_of(name):
    """Returns whom a parameter belongs to, by the truth of the tests' own list."""
    return "nuisance" if name.startswith("outfits.") and name.split(".")[1] in NUISANCE else "honest"


def ends_of(limits):
    """Returns the least and the greatest factor of a range."""
    return limits.factor[0] * limits.worldwide[0], limits.factor[1] * limits.worldwide[1]


def is_allowed(name, before, after, limits):
    """Whether a draw lies in the range, computed from both values."""
    if isinstance(before, list):
        shifts = {round(b - a, 6) for a, b in zip(before, after, strict=True) if 0 < b < 24}
        return len(shifts) <= 1 and all(abs(shift) <= limits.shift for shift in shifts)
    low, high = ends_of(limits)
    if after == 0 and limits.absent > 0:
        return True
    if (before in (0, 1) and name.endswith("_share")) or before == 0:
        return after == before
    if name.endswith("_share"):
        ratio = after / (1 - after) / (before / (1 - before))
    elif isinstance(before, int):
        return isinstance(after, int) and math.floor(before * low) <= after <= math.ceil(before * high) and after >= 1
    else:
        ratio = after / before
    return low * (1 - 1e-9) <= ratio <= high * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_each_draw_lies_in_its_range_and_all_else_stays(seed):
    varied = dict(leaves(vary(SCENARIO, seed).values))
    assert varied.keys() == DEFAULTS.keys()
    moved = 0
    for name, before in DEFAULTS.items():
        limits = range_of(name, callers_of(name))
        if limits is None:
            assert varied[name] == before, name
        else:
            assert type(varied[name]) is type(before) and is_allowed(name, before, varied[name], limits), name
            moved += varied[name] != before
    assert moved > 400


def test_draws_depend_on_seed_and_name_alone():
    assert vary(SCENARIO, 7).values == vary(SCENARIO, 7).values
    assert vary(SCENARIO, 7).fingerprint != vary(SCENARIO, 8).fingerprint
    one_trade = Scenario({"work": {"courier": SCENARIO.values["work"]["courier"]}})
    assert vary(one_trade, 7).values["work"]["courier"] == vary(SCENARIO, 7).values["work"]["courier"]


def test_draws_of_many_seeds_reach_both_ends_of_a_range():
    before = DEFAULTS["work.courier.rate.median"]
    rate = Scenario({"work": {"courier": {"rate": {"median": before}}}})
    ratios = [vary(rate, seed).values["work"]["courier"]["rate"]["median"] / before for seed in range(60)]
    assert vary(SCENARIO, 59).values["work"]["courier"]["rate"]["median"] == ratios[59] * before
    low, high = range_of("work.courier.rate.median", "honest").factor
    assert min(ratios) < low * 1.1 and max(ratios) > high / 1.1
    assert 0.35 < sum(ratio < math.sqrt(low * high) for ratio in ratios) / 60 < 0.65


def test_every_pattern_draws_a_parameter_that_no_earlier_range_takes():
    drawn = {limits.title: set() for limits in RANGES}
    for name in DEFAULTS:
        if limits := range_of(name, callers_of(name)):
            drawn[limits.title].add(name)
    unused = [
        (limits.title, pattern)
        for limits in RANGES
        for pattern in limits.names
        if not any(fnmatchcase(name, pattern) for name in drawn[limits.title])
    ]
    assert unused == [] and len(drawn) == len(RANGES)


@pytest.mark.parametrize("limits", RANGES, ids=lambda limits: limits.title)
def test_what_a_source_fixes_varies_little_and_what_no_source_says_varies_widely(limits):
    low, high = ends_of(limits)
    least, most = {"source": (1.0, 3.0), "partial": (1.0, 7.0), "none": (10.0, 120.0)}[limits.evidence]
    assert least <= high / low <= most
    assert limits.ends == (low, high) and len(limits.reason) > 20


@pytest.mark.system
def test_a_varied_world_has_more_and_smaller_organisations():
    size = {"sizes": SCENARIO.values["sizes"] | {"tiny": {"subscribers": 3000, "days": 28}}}
    scenario = Scenario(SCENARIO.values | size)
    numbers = [simulate(world, 3, "tiny").numbers.to_pandas() for world in (scenario, vary(scenario, 3))]
    usual, varied = (table.loc[table["slice"] == "telemarketer", "campaign"].nunique() for table in numbers)
    assert varied > 1.5 * usual > 0
