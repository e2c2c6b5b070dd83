"""Varied worlds: what no source says is drawn widely, the records show it, and any drawn world is a possible one."""

import json
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from callsieve.features import Intake, Key
from callsieve.training.world import load_scenario, read_world, simulate
from callsieve.training.world.basis.scenario import Scenario
from callsieve.training.world.basis.variation import shipped_variation, vary
from callsieve.training.world.store import write_planned_world
from callsieve.training.world.world import plan_world
from tests.support.calls.worlds import (
    CLEAN,
    HOUR,
    NUISANCE,
    OUTFITS,
    category_codes,
    check_calls_within_lifetimes,
    check_one_call_per_mobile,
    count_calls,
    scenario_of,
    text_values,
    timestamps,
)

PREFIXES = ("162", "165", "167", "170", "171")  # of resale numbers; source: the numbering plan
HONEST = set(OUTFITS) - NUISANCE
TINY = scenario_of(f"{CLEAN}[sizes.tiny]\nsubscribers = 500\ndays = 14\n")
SEEDS = range(1, 9)
RANGES = {limits.title: limits for limits in shipped_variation().range}
SHIPPED = load_scenario().values["outfits"]


@pytest.fixture(scope="module")
def worlds():
    """Eight varied worlds whose records are complete."""
    drawn = [vary(TINY, seed) for seed in SEEDS]
    complete = [replace(scenario, drawn=replace(scenario.drawn, lacks=())) for scenario in drawn]
    return [simulate(scenario, seed, "tiny") for seed, scenario in zip(SEEDS, complete, strict=True)]


def scenario_with(**outfits):
    """Returns a scenario of a few parameters of outfits alone, which is varied faster than a whole one."""
    return Scenario({"outfits": {name: {"nuisance": name in NUISANCE, **values} for name, values in outfits.items()}})


def odds(share):
    return share / (1 - share)


# Draws


@pytest.mark.parametrize(
    ("title", "name", "parameter", "is_share"),
    [
        ("calls back to honest numbers", "hospital", "callback_share", True),
        ("calls back to nuisance numbers", "robot", "callback_share", True),
        ("calls of customers", "hospital", "inbound_per_day", False),
        ("shared trunks", "robot", "shared_trunk_share", True),
        ("repeated calls to the same person", "robot", "again_share", True),
    ],
)
def test_what_no_source_says_covers_its_whole_range_evenly(title, name, parameter, is_share):
    before = SHIPPED[name][parameter]
    drawn = [
        vary(scenario_with(**{name: {parameter: before}}), seed).values["outfits"][name][parameter]
        for seed in range(600)
    ]
    ratio = np.log([odds(after) / odds(before) if is_share else after / before for after in drawn])
    (own_low, own_high), (low, high) = np.log(RANGES[title].factor), np.log(RANGES[title].worldwide)
    # The sum of two independent even draws has this mean and this variance.
    mean, sigma = (own_low + own_high + low + high) / 2, np.sqrt(((own_high - own_low) ** 2 + (high - low) ** 2) / 12)
    assert abs(ratio.mean() - mean) < 4 * sigma / np.sqrt(600) and abs(ratio.std() / sigma - 1) < 0.1
    assert np.exp(np.subtract(*np.quantile(ratio, [0.97, 0.03]))) > 10
    assert np.exp(np.ptp(ratio)) > 0.6 * np.exp(own_high - own_low + high - low)


def test_a_network_has_habits_that_its_trades_share():
    shares = {
        "hospital": {"callback_share": 0.3},
        "restaurant": {"callback_share": 0.3},
        "robot": {"callback_share": 0.3},
    }
    drawn = [vary(scenario_with(**shares), seed) for seed in range(300)]
    ratio = np.log([[odds(world.values["outfits"][name]["callback_share"]) for name in shares] for world in drawn])
    low, high = RANGES["calls back to honest numbers"].factor
    assert np.abs(ratio[:, 0] - ratio[:, 1]).max() < np.log(high / low), (
        "trades of a network differ by their own factor"
    )
    assert np.corrcoef(ratio[:, 0], ratio[:, 1])[0, 1] > 0.6
    assert abs(np.corrcoef(ratio[:, 0], ratio[:, 2])[0, 1]) < 0.2, "calls back to nuisance numbers are another habit"
    factor = [world.drawn.worldwide["calls back to honest numbers"] for world in drawn]
    assert np.abs(ratio[:, 0] - np.log(factor) - np.log(odds(0.3))).max() < np.log(high / low)


def test_resale_numbers_vanish_from_nuisance_in_a_fifth_of_the_worlds():
    pools = {name: {"pool": SHIPPED[name]["pool"]} for name in ("robot", "fraud_ring", "public_campaign")}
    without = 0
    for seed in range(400):
        drawn = vary(scenario_with(**pools), seed).values["outfits"]
        absent = {drawn[name]["pool"]["resale"] == 0 for name in ("robot", "fraud_ring")}
        assert len(absent) == 1 and drawn["public_campaign"]["pool"]["resale"] > 0
        without += absent.pop()
        assert all(sum(drawn[name]["pool"].values()) > 0 for name in pools)
    assert 0.14 < without / 400 < 0.26


def test_a_source_fixes_how_telemarketers_dial():
    outfit = SHIPPED["telemarketer"]
    for seed in range(20):
        drawn = vary(scenario_with(telemarketer=outfit), seed).values["outfits"]["telemarketer"]
        for name in ("rate", "number_days", "hours", "again_share"):
            assert drawn[name] == outfit[name]
        assert drawn["manner"]["talk"] == outfit["manner"]["talk"]
        assert all(0.6 < drawn["pool"][name] / outfit["pool"][name] < 1.6 for name in ("mobile", "fixed"))


# Records


def calls_back_share(world, slices):
    """Returns the share of missed calls of the numbers of some populations that are returned within six hours."""
    caller, callee = (category_codes(world.calls, name) for name in ("caller", "callee"))
    outfit = np.zeros(len(world.calls["caller"].combine_chunks().dictionary), dtype=bool)
    rows = np.isin(text_values(world.numbers, "slice"), list(slices))
    outfit[category_codes(world.numbers, "number")[rows]] = True
    start, missed = timestamps(world.calls, "start"), text_values(world.calls, "outcome") == "no_answer"
    returned = {}
    for row in np.flatnonzero(outfit[callee]):
        returned.setdefault((callee[row], caller[row]), []).append(start[row])
    rows = np.flatnonzero(outfit[caller] & missed)
    back = [any(0 < at - start[row] < 6 * HOUR for at in returned.get((caller[row], callee[row]), ())) for row in rows]
    return np.mean(back)


def calls_in_share(world, slices):
    """Returns calls to the numbers of some populations, in relation to the calls from them."""
    number = text_values(world.numbers, "number")[np.isin(text_values(world.numbers, "slice"), list(slices))]
    calls_in, calls_out = (np.isin(text_values(world.calls, name), number).sum() for name in ("callee", "caller"))
    return calls_in / calls_out


@pytest.mark.system
@pytest.mark.parametrize("slices", [HONEST, NUISANCE - {"lent_card", "one_ring"}], ids=["honest", "nuisance"])
def test_the_records_of_eight_worlds_differ_tenfold_in_calls_back(worlds, slices):
    shares = [calls_back_share(world, slices) for world in worlds]
    assert max(shares) > 10 * min(shares)


@pytest.mark.system
def test_the_records_of_eight_worlds_differ_in_calls_of_customers(worlds):
    shares = [calls_in_share(world, HONEST) for world in worlds]
    assert max(shares) > 10 * min(shares)


@pytest.mark.system
def test_in_some_worlds_no_nuisance_number_is_a_resale_number(worlds):
    shares = []
    for world in worlds:
        nuisance = world.numbers["nuisance"].to_numpy() & (text_values(world.numbers, "slice") != "lent_card")
        shares.append(
            np.mean([number.startswith(PREFIXES) for number in text_values(world.numbers, "number")[nuisance]])
        )
        absent = world.drawn.worldwide["resale numbers among nuisance"] == 0
        assert not absent or shares[-1] == 0
    assert min(shares) == 0 and max(shares) > 0.15


def test_where_resale_numbers_vanish_by_scenario_nuisance_has_few():
    names = [name for name in NUISANCE if OUTFITS[name]["pool"].get("resale", 0) > 0 and name != "lent_card"]
    vanished = load_scenario(Path("resale_vanishes")).values["outfits"]
    assert len(names) == 12 and all(vanished[name]["pool"]["resale"] < 0.01 for name in names)


def test_records_without_calls_to_organisations_have_all_other_calls():
    drawn = vary(TINY, 1)
    lacking, complete = (
        simulate(replace(drawn, drawn=replace(drawn.drawn, lacks=lacks)), 1, "tiny")
        for lacks in (("calls to organisations",), ())
    )
    kind = dict(zip(text_values(complete.numbers, "number"), text_values(complete.numbers, "slice"), strict=True))
    organisations = set(OUTFITS) - {"lent_card"} | {"relay"}
    rows = [kind.get(callee) not in organisations for callee in text_values(complete.calls, "callee")]
    assert 0.01 < 1 - np.mean(rows) < 0.3
    for name in ("caller", "callee", "outcome"):
        assert (text_values(lacking.calls, name) == text_values(complete.calls, name)[rows]).all()
    assert (timestamps(lacking.calls, "start") == timestamps(complete.calls, "start")[rows]).all()
    assert lacking.facts["scenario"] != complete.facts["scenario"], "a folder with the other records is refused"
    assert lacking.truth["call"].to_pylist() == list(range(sum(rows)))


def test_records_lack_calls_to_organisations_in_a_seventh_of_the_worlds():
    lacking = [vary(Scenario({}), seed).drawn.lacks for seed in range(600)]
    assert set(lacking) == {(), ("calls to organisations",)}
    assert 0.11 < sum(map(bool, lacking)) / 600 < 0.19


# The drawn values are recorded


def test_the_facts_of_a_varied_world_name_each_drawn_value(tmp_path):
    size = scenario_of("[sizes.tiny]\nsubscribers = 120\ndays = 2\n")
    varied = vary(size, 3)
    for name, scenario in (("varied", varied), ("plain", size)):
        write_planned_world(plan_world(scenario, 3, "tiny"), Intake(Key("e1", bytes(range(32)))), tmp_path / name)
    facts = json.loads((tmp_path / "varied" / "world.json").read_text())
    stated = facts["drawn"]["values"]
    for dotted, value in stated.items():
        before, after = size.values, varied.values
        for key in dotted.split("."):
            before, after = before[key], after[key]
        assert value == after != before
    assert len(stated) > 400 and set(facts["drawn"]["worldwide"]) == {
        title for title, limits in RANGES.items() if limits.worldwide != (1.0, 1.0)
    }
    assert read_world(tmp_path / "varied").drawn == varied.drawn
    assert "drawn" not in json.loads((tmp_path / "plain" / "world.json").read_text())
    assert read_world(tmp_path / "plain").drawn is None


# Every drawn world is a possible one


@pytest.mark.system
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_calls_and_trunks_are_possible_in_any_varied_world(seed):
    scenario = vary(scenario_of(f"{CLEAN}[sizes.tiny]\nsubscribers = 250\ndays = 8\n"), seed)
    planned = plan_world(scenario, seed, "tiny")
    world = simulate(scenario, seed, "tiny")
    start = timestamps(world.calls, "start")
    assert (np.diff(start) >= 0).all()
    assert (text_values(world.calls, "caller") != text_values(world.calls, "callee")).all()
    total, taken, lost = count_calls(world)
    assert total == taken + lost
    check_calls_within_lifetimes(world)
    check_one_call_per_mobile(world)
    numbers = planned.sim.numbers
    on_trunk = (numbers["trunk"] >= 0) & (numbers["outfit"] >= 0)
    tenants = {}
    for trunk, outfit in zip(numbers["trunk"][on_trunk], numbers["outfit"][on_trunk], strict=True):
        tenants.setdefault(trunk, set()).add(outfit)
    assert max(map(len, tenants.values())) <= scenario.table("numbering.trunks")["most_tenants"]
    register = world.registers["trunks"].to_pandas()
    assert (register.groupby("trunk", observed=True)["declared_use"].nunique() == 1).all()
    seen = np.where(category_codes(world.calls, "network_caller") >= 0, None, text_values(world.calls, "trunk"))
    trunks_of = {}
    for caller, trunk in zip(text_values(world.calls, "caller"), seen, strict=True):
        if trunk is not None:
            trunks_of.setdefault(caller, set()).add(trunk)
    assert all(len(trunks) == 1 for trunks in trunks_of.values())
