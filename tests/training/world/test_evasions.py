"""Every evasion can be switched on alone and behaves as its name says."""

from functools import cache

import numpy as np
import pytest

from callsieve.training.world import simulate
from tests.support.calls.worlds import CLEAN, HOUR, OUTFITS, category_codes, scenario_of, text_values, timestamps

ATTACKS = {name: outfit["attack"] for name, outfit in OUTFITS.items() if outfit["attack"]}
OFF = dict.fromkeys(ATTACKS, 0.0)


def rates(calls_per_1000):
    return "".join(f"[outfits.{name}]\ncalls_per_1000 = {rate}\n" for name, rate in calls_per_1000.items())


@cache
def village():
    """A village in which the evasions by pace and by number are common."""
    common = ("rotation_in_block", "rotation_across_blocks", "local_numbers", "jittered", "robot", "telemarketer")
    common += ("courier_mimic", "padded_talk", "low_and_slow")
    size = "[sizes.tiny]\nsubscribers = 1500\ndays = 21\n"
    return simulate(scenario_of(f"{CLEAN}{size}{rates(dict.fromkeys(common, 40.0))}"), 7, "tiny")


def rows_of(name):
    return np.flatnonzero(text_values(village().truth, "slice") == name)


def callers(name):
    rows = rows_of(name)
    return text_values(village().calls, "caller")[rows], text_values(village().truth, "campaign")[rows]


def mobile(number):
    return len(number) == 11 and number[0] == "1"


@pytest.mark.system
@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_every_evasion_is_switched_on_alone(name):
    size = "[sizes.tiny]\nsubscribers = 180\ndays = 6\n[people.kinds.lender]\nleast = 20\n"
    world = simulate(scenario_of(f"{CLEAN}{size}{rates(OFF | {name: 20.0})}"), 3, "tiny")
    assert set(text_values(world.truth, "attack")) == {None, ATTACKS[name]}


@pytest.mark.parametrize(
    ("name", "fewest", "most"), [("rotation_in_block", 0.0, 0.2), ("rotation_across_blocks", 0.9, 1)]
)
def test_new_numbers_come_from_one_block_or_from_many(name, fewest, most):
    """Compares further blocks with further numbers of each campaign."""
    number, campaign = callers(name)
    further = blocks = 0
    for outfit in set(campaign):
        mobiles = {text for text in number[campaign == outfit] if mobile(text)}
        further += max(len(mobiles) - 1, 0)
        blocks += max(len({text[:7] for text in mobiles}) - 1, 0)
    assert further > 15
    assert fewest <= blocks / further <= most


def test_local_numbers_are_in_the_blocks_of_their_victims():
    world = village()
    people = np.isin(text_values(world.numbers, "slice"), ["ordinary", "elderly"])
    home = {number[:7] for number in text_values(world.numbers, "number")[people]}
    share = {
        name: np.mean([number[:7] in home for number in set(callers(name)[0]) if mobile(number)])
        for name in ("local_numbers", "rotation_across_blocks")
    }
    assert share["local_numbers"] > 0.95
    assert share["rotation_across_blocks"] < 0.6


def pace(name):
    """Returns the standard deviation of the log gaps between a number's calls within an hour."""
    rows = rows_of(name)
    number, start = category_codes(village().calls, "caller")[rows], timestamps(village().calls, "start")[rows]
    order = np.lexsort((start, number))
    gap = np.diff(start[order])[np.diff(number[order]) == 0]
    return np.log(gap[(gap > 0) & (gap < HOUR)]).std()


def test_a_jittered_robot_is_as_irregular_as_a_person():
    assert pace("jittered") > 0.9 * pace("telemarketer")
    assert pace("robot") < 0.8 * pace("jittered")


def test_low_and_slow_calls_a_few_times_a_day():
    def a_day(name):
        rows = rows_of(name)
        day = timestamps(village().calls, "start")[rows] // (24 * HOUR)
        return np.median(np.unique(category_codes(village().calls, "caller")[rows] << 20 | day, return_counts=True)[1])

    assert a_day("low_and_slow") < a_day("telemarketer") / 2


def test_padded_talk_is_longer_and_goes_to_few_lines():
    calls = village().calls
    answered = text_values(calls, "outcome") == "answered"
    callee, talk = category_codes(calls, "callee"), calls["talk"].to_numpy()
    mean, most = {}, {}
    for name in ("padded_talk", "telemarketer"):
        rows = rows_of(name)[answered[rows_of(name)]]
        total = np.bincount(callee[rows], weights=talk[rows])
        campaigns = len(set(text_values(village().truth, "campaign")[rows]))
        mean[name] = talk[rows].mean()
        most[name] = np.sort(total)[::-1][: 12 * campaigns].sum() / total.sum()
    assert mean["padded_talk"] > 1.2 * mean["telemarketer"]
    assert most["padded_talk"] > 0.4 > most["telemarketer"] - 0.2


def test_a_mimic_has_the_talk_times_and_hours_of_a_courier():
    calls = village().calls
    answered = text_values(calls, "outcome") == "answered"
    talk, hour = calls["talk"].to_numpy(), (timestamps(calls, "start") // HOUR + 8) % 24
    rows_by_name = {name: rows_of(name) for name in ("courier_mimic", "courier")}
    median = {name: np.median(talk[rows[answered[rows]]]) for name, rows in rows_by_name.items()}
    assert 0.6 < median["courier_mimic"] / median["courier"] < 1.7
    for rows in rows_by_name.values():
        assert ((hour[rows] >= 7) & (hour[rows] < 20)).mean() > 0.95


def list_overlap(lists):
    """Returns the 95 % quantile of the share of a campaign's subscribers whom another campaign calls."""
    text = f"[sizes.tiny]\nsubscribers = 3000\ndays = 12\n[lists]\npeople_per_list = 40\nleast = {lists}\n"
    world = simulate(scenario_of(f"{CLEAN}{text}{rates(OFF | {'telemarketer': 150.0})}"), 7, "tiny")
    subscribers = set(text_values(world.numbers, "number")[text_values(world.numbers, "own_mobile").astype(bool)])
    telemarketing = text_values(world.truth, "slice") == "telemarketer"
    campaign = text_values(world.truth, "campaign")[telemarketing]
    callee = text_values(world.calls, "callee")[telemarketing]
    called = [subscribers & set(callee[campaign == name]) for name in set(campaign)]
    lists = [people for people in called if 25 < len(people) <= 50]
    assert len(lists) > 8
    shares = [len(people & other) / len(people) for people in lists for other in lists if people is not other]
    return np.quantile(shares, 0.95)


@pytest.mark.system
def test_campaigns_share_lists():
    assert list_overlap(4) > 0.8
    assert list_overlap(3000) < 0.3, "separate lists overlap by chance only"
