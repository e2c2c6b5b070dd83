"""Flagged numbers: events by an oracle that keeps them all, size of the table, and verdicts by call and by table."""

import dataclasses
import sys
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from callsieve.features import History
from callsieve.features.files.dates import DAY, HOUR
from callsieve.features.intake.keyed_table import keyed_calls
from callsieve.serving.batch.file_scoring import score_calls
from callsieve.serving.rules.policy import ACTIONS, Policy
from callsieve.serving.rules.rule_bits import rule_names
from callsieve.serving.scorer.flags import NAME, Flags
from callsieve.serving.scorer.scorer import Scorer
from tests.support import real_bundle

BEGIN = 20_000 * DAY


def events_before(caught: list[int], at: int) -> int:
    """How many events flag a number for a call, from the moments of all its caught calls."""
    moments = sorted({moment for moment in caught if moment < at})
    run = 0
    for moment, last in zip(moments, [None, *moments], strict=False):
        longest = 7 * DAY if run >= 2 else 24 * HOUR
        run = run + 1 if last is not None and moment - last <= longest else 1
    return run if run >= 2 and at - moments[-1] <= 7 * DAY else 0


steps = st.sampled_from([0, 0, HOUR, 24 * HOUR, 24 * HOUR + 1, 7 * DAY, 7 * DAY + 1])
parties = st.sampled_from([("a", None)] * 4 + [("b", None), ("a", "t")])
calls_of_numbers = st.lists(st.tuples(steps, parties, st.sampled_from([True, True, False])), min_size=4)


@given(calls_of_numbers, st.randoms(use_true_random=False))
def test_events_are_those_of_an_oracle_in_any_order_within_a_millisecond(drawn, random):
    at, calls = BEGIN, []
    for step, party, is_caught in drawn:
        at += step
        calls.append((at, *party, is_caught))
    random.shuffle(calls)
    calls.sort(key=lambda call: call[0])
    flags, caught = Flags(calls=2), defaultdict(list)
    for at, number, trunk, is_caught in calls:
        if is_caught:
            caught[number, trunk].append(at)
    for at, number, trunk, is_caught in calls:
        assert flags.events(number, trunk, at, caught=is_caught) == events_before(caught[number, trunk], at)


def test_a_number_takes_at_most_40_bytes_and_outlives_a_restart():
    flags = Flags(calls=2)
    for number in range(50_000):
        for event in range(3):
            flags.events(f"e1.{number}", "t", BEGIN + event, caught=True)
    data = flags.to_bytes()
    assert len(flags) == 50_000 and sum(sys.getsizeof(table.cells) for table in flags._tables) <= 40 * 50_000
    again = Flags(calls=2)
    again.restore(data)
    assert all(again.events(f"e1.{number}", "t", BEGIN + 3, caught=False) == 3 for number in range(0, 50_000, 1_000))
    assert again.events("e1.50000", "t", BEGIN + 3, caught=False) == 0
    again.release("e1.7")
    assert again.events("e1.7", "t", BEGIN + 3, caught=False) == 0
    for damage in (b"", data[:-8], data[:16], bytes(len(data)), data + bytes(16)):
        with pytest.raises(ValueError, match="bytes of a table"):
            again.restore(damage)
    assert again.events("e1.9", "t", BEGIN + 3, caught=False) == 3


def test_old_events_leave_the_table_before_it_grows():
    flags = Flags(calls=2)
    for number in range(5_000):
        flags.events(f"e1.{number}", None, BEGIN + number * HOUR, caught=True)
    assert len(flags) <= 2_048 and len(flags.to_bytes()) <= 16 * (7 * 24 + 2)


@pytest.fixture(scope="module")
def calls():
    return real_bundle.key_table(real_bundle.calls(2_600))


@pytest.mark.parametrize("reach", [0.01, 0.5, 1.0])
def test_single_calls_and_a_table_are_flagged_alike(bundle_folder, calls, reach, monkeypatch):
    """Every tenth call reaches the highest band, and every second one the lowest."""
    monkeypatch.setattr(Flags.__init__, "__kwdefaults__", {"calls": 2, "span": 400 * HOUR, "life": 28 * DAY})
    rules = {"flagged": "label"}
    policy = Policy("t", {"certified": "label", "watch": "pass"}, rules, history_days=0, feed="complete")
    bundle = real_bundle.load_scorer(bundle_folder, policy).bundle
    raw = score_calls(Scorer(bundle, policy), calls, threads=1)[0].raw
    bands = tuple(
        structs.replace(band, threshold=float(np.quantile(raw, share)), raised={}, abstains=())
        for band, share in zip(bundle.thresholds, (0.9, 0.5), strict=True)
    )
    threshold = bands[0].threshold - reach * (bands[0].threshold - bands[1].threshold)
    lower = structs.replace(bands[0], name=NAME, threshold=threshold)
    scorer = Scorer(structs.replace(bundle, thresholds=bands, feeds={}, levels={}, flags={"complete": lower}), policy)
    scores, _ = score_calls(scorer, calls, threads=1)
    history, single = History(), []
    for call in keyed_calls(calls):
        single.append(scorer.score(history, call))
        history.observe(call)
    flagged = ["flagged" in rule_names(bits) for bits in scores.rule_bits.tolist()]
    assert [any(fact.rule == "flagged" for fact in verdict.rules) for verdict in single] == flagged
    assert [verdict.action for verdict in single] == [ACTIONS[action] for action in scores.action]
    alone = [place for place, verdict in enumerate(single) if flagged[place] and verdict.band == "watch"]
    assert len(alone) > 20 * reach
    assert min(scores.raw[alone], default=threshold) >= threshold
    fact = next(fact for fact in single[alone[0]].rules if fact.rule == "flagged") if alone else None
    assert fact is None or f"{fact.value:.0f} of its earlier calls looked like nuisance calls" in fact.en
    quiet, other = dataclasses.replace(policy, rules={}), {"complete": structs.replace(lower, name="another rule")}
    bundles = [structs.replace(scorer.bundle, flags=flags) for flags in (other, {})]
    for silent in (Scorer(scorer.bundle, quiet), *(Scorer(bundle, policy) for bundle in bundles)):
        assert (score_calls(silent, calls, threads=1)[0].action[alone] == 0).all()
