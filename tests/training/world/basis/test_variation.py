"""A varied world draws each assumed parameter from its stated range, and leaves every other value alone."""

import math
from fnmatch import fnmatchcase

import pytest

from callsieve.training.world import load_scenario, simulate
from callsieve.training.world.basis.scenario import Scenario
from callsieve.training.world.basis.variation import range_of, shipped_ranges, vary

SCENARIO = load_scenario()
KEEP, RANGES = shipped_ranges()


def leaves(table, prefix=""):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


DEFAULTS = dict(leaves(SCENARIO.values))


def is_allowed(name, before, after, limits):
    """Whether a draw lies in the range, computed from both values."""
    if isinstance(before, list):
        shifts = {round(b - a, 6) for a, b in zip(before, after, strict=True) if 0 < b < 24}
        return len(shifts) <= 1 and all(abs(shift) <= limits.shift for shift in shifts)
    low, high = limits.factor
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
        limits = range_of(name)
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
    low, high = range_of("work.courier.rate.median").factor
    assert min(ratios) < low * 1.1 and max(ratios) > high / 1.1
    assert 0.35 < sum(ratio < math.sqrt(low * high) for ratio in ratios) / 60 < 0.65


def test_every_pattern_names_a_parameter_and_every_range_has_a_reason():
    patterns = [*KEEP, *(pattern for limits in RANGES for pattern in limits.names)]
    assert [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in DEFAULTS)] == []
    assert all(len(limits.reason) > 20 for limits in RANGES)
    assert all(range_of(name) is None for name in DEFAULTS if any(fnmatchcase(name, pattern) for pattern in KEEP))


@pytest.mark.system
def test_a_varied_world_has_more_and_smaller_organisations():
    size = {"sizes": SCENARIO.values["sizes"] | {"tiny": {"subscribers": 3000, "days": 28}}}
    scenario = Scenario(SCENARIO.values | size)
    numbers = [simulate(world, 3, "tiny").numbers.to_pandas() for world in (scenario, vary(scenario, 3))]
    usual, varied = (table.loc[table["slice"] == "telemarketer", "campaign"].nunique() for table in numbers)
    assert varied > 1.5 * usual > 0
