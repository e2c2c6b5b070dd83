"""Numbers with few calls take little memory, become full and compact again, and have the values of the table."""

import random

import numpy as np
import pytest

from callsieve.features.codegen.memory_layout import used_sizes
from callsieve.features.offline.table import vectors
from callsieve.features.online.history import History
from callsieve.features.stream.compact_numbers import FEW
from callsieve.features.stream.key_store import STATES
from tests.support.calls.strategies import DAY, EXAMPLE_CALL, HOUR, as_keyed_call, as_keyed_table

START = EXAMPLE_CALL["start"]


def call_at(start, caller, callee, **more):
    return EXAMPLE_CALL | {"start": start, "day": (start + 8 * HOUR) // DAY, "caller": caller, "callee": callee} | more


def waves(rng, rounds):
    """Returns busy hours with many calls at the same millisecond, each followed by eight days with few calls."""
    calls, start = [], START
    for _ in range(rounds):
        for _ in range(2 * FEW):
            start += rng.choice((0, 1000, 60_000))
            caller, callee = rng.sample("abc", 2)
            missed = {"outcome": "no_answer", "talk": 0} if rng.random() < 0.5 else {}
            calls.append(call_at(start, caller, callee + rng.choice(" 12345"), **missed))
        for _ in range(rng.choice((3, 8))):
            start += rng.choice((HOUR // 2, DAY, 3 * DAY))
            calls.append(call_at(start, *rng.sample("abc", 2), trunk=rng.choice(("t", "u"))))
        start += 4 * DAY
    return list({(call["start"], call["caller"], call["callee"]): call for call in calls}.values())


def full_numbers(history):
    """Returns how many numbers have a state of their own."""
    compact, keys = history._memory["number"]["compact"], history._max_numbers + 1
    size = len(compact) // keys
    return sum(compact[key * size] < 0 for key in range(keys))


@pytest.mark.parametrize(("compiled", "seeds"), [(True, 6), (False, 1)])
def test_numbers_become_full_and_compact_again_without_a_change_of_values(compiled, seeds):
    for seed in range(seeds):
        calls = waves(random.Random(seed), rounds=4)
        history, most = History(calls=400, numbers=40, compiled=compiled), 0
        expected = vectors(as_keyed_table(calls), threads=1)
        for call, row in zip(calls, expected, strict=True):
            np.testing.assert_array_equal(history.vector(as_keyed_call(call)), row)
            history.observe(as_keyed_call(call))
            most = max(most, full_numbers(history))
        assert most >= 2
        history.advance(calls[-1]["start"] + 8 * DAY)
        assert history.calls == full_numbers(history) == 0
        assert history._memory["number"]["counts"][STATES] == most  # states are used again


def test_a_number_with_one_call_takes_a_fraction_of_a_state():
    history = History(calls=1000, numbers=1000)
    for i in range(400):
        history.observe(as_keyed_call(call_at(START + i, f"n{i}", f"n{(i + 7) % 400}")))
    history.advance(START + HOUR)
    used = sum(
        size * history._memory[part][name].itemsize
        for part, arrays in used_sizes(history._driver.layouts, history._memory).items()
        for name, (_, size) in arrays.items()
        if not name.startswith("place")  # runs of 512 events, of which the last has room
    )
    assert history.numbers == 400
    assert used / history.numbers < 4 * history._driver.layouts["number"].STATE / 3


def test_silent_numbers_and_idle_groups_give_their_places_to_new_ones():
    history, numbers = History(calls=1000, numbers=1000), []
    for i in range(12):
        start = START + i * 10 * DAY
        for j in range(5):
            history.observe(as_keyed_call(call_at(start + j, f"a{i}-{j}", f"b{i}-{j}", trunk=f"t{i}-{j}")))
        history.advance(start + 9 * DAY)
        numbers.append(history.numbers)
    assert numbers[:6] == [10, 20, 30, 40, 50, 60]
    assert max(numbers) == numbers[-1] <= 70
    assert history.evicted == 0
    assert len(history._keys["trunk"]) == 5
