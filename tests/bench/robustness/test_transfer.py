"""The bench of other networks counts calls and numbers as its docstring says."""

import pandas as pd
import pytest

from tests.bench.robustness.bench_transfer import judged

DAY = 86_400_000
TRUTH = pd.DataFrame({"number": ["1", "2", "3"], "slice": ["person", "telesales", "telesales"], "nuisance": [0, 1, 1]})


def rows(*calls):
    """Verdicts of calls (caller, day, probability, action), after a call of the first day."""
    table = pd.DataFrame([("1", 0, 0.9, "label"), *calls], columns=["own caller", "start", "probability", "action"])
    return table.assign(start=table["start"] * DAY, status="scored")


def test_only_calls_after_the_history_and_of_known_truth_are_judged():
    calls = [("2", 7, 0.9, "label"), ("9", 9, 0.9, "label")]
    calls += [("1", 8, 0.1, "pass"), ("1", 9, 0.2, "label"), ("2", 9, 0.9, "pass"), ("2", 10, 0.9, "label")]
    figures = judged(rows(*calls), TRUTH)
    assert (figures["calls"]["innocent"], figures["calls"]["flagged"]) == (2, 1)
    assert figures["calls"]["flagged_in_10000"] == 5000
    assert figures["calls"]["caught"] == 0.5
    assert (figures["calls"]["auc"], figures["calls"]["caught_in_hindsight"]) == (1.0, 1.0)
    assert figures["status"] == {"scored": 4}
    assert figures["flagged_by_kind"] == {"person": 0.5, "telesales": 0.5}


def test_a_score_that_an_innocent_call_reaches_is_not_above_the_threshold_in_hindsight():
    figures = judged(rows(("1", 8, 0.9, "pass"), ("2", 8, 0.9, "pass"), ("3", 8, 0.95, "pass")), TRUTH)
    assert figures["calls"]["caught_in_hindsight"] == 0.5


@pytest.mark.parametrize(("flags", "detected", "half"), [("pp", 0, None), ("pl", 1, 2), ("lp", 1, 1)])
def test_numbers_count_from_their_first_judged_call(flags, detected, half):
    words = {"p": "pass", "l": "label"}
    calls = [("2", 8 + place, 0.5, words[flag]) for place, flag in enumerate(flags)]
    figures = judged(rows(("1", 8, 0.1, "pass"), *calls), TRUTH)
    assert figures["numbers"] == {
        "innocent_flagged": 0, "nuisance": 1, "detected": detected, "half_detected_by_call": half
    }  # fmt: skip
