"""The bench of one operator counts calls as its docstring says."""

import pandas as pd

from tests.bench.robustness.bench_operators import judged

TRUTH = pd.DataFrame({"number": ["1", "2", "3"], "nuisance": [0, 1, 1]})


def test_only_calls_after_the_history_and_of_known_truth_are_judged():
    calls = [("1", 0, "label"), ("2", 7, "label"), ("9", 9, "label")]
    calls += [("1", 8, "pass"), ("1", 9, "label"), ("2", 9, "pass"), ("2", 10, "label")]
    table = pd.DataFrame(calls, columns=["own caller", "start", "action"])
    figures = judged(table.assign(start=table["start"] * 86_400_000), TRUTH)
    assert figures == {"innocent": 2, "flagged": 1, "flagged_in_10000": 5000, "caught": 0.5}
