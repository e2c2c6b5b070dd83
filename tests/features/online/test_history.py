"""What no intake makes is refused where a call comes in, in one line; the history is as it was."""

from dataclasses import replace

import pytest

from callsieve.features.online.history import History
from callsieve.features.records import KEYED_COLUMNS
from tests.support.strategies import EXAMPLE_CALL, as_keyed_call

GOOD = as_keyed_call(EXAMPLE_CALL)
MAY_BE_ABSENT = ("ring", "talk", "recorded", "caller_block", "trunk", "operator", "device", "place")
TEXTS = ("caller", "callee", "caller_block", "trunk", "device")
NOT_OF_A_CALL = ("operator", "place")  # no feature asks for them


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("field", [name for name in KEYED_COLUMNS if name not in NOT_OF_A_CALL])
def test_what_no_intake_makes_is_refused(field, compiled):
    history = History(calls=100, numbers=20, compiled=compiled)
    history.observe(GOOD)
    expected = repr(history.vector(GOOD))  # NaN is not equal to itself
    bad = [3.5, b"13800138000", [1], 1 << 64] + ([] if field in MAY_BE_ABSENT else [None])
    bad += [13800138000] if field in TEXTS else ["13800138000", -(1 << 63) - 1]
    for value in bad:
        for take in (history.observe, history.vector):
            with pytest.raises(ValueError, match="call: expected texts, and whole numbers") as caught:
                take(replace(GOOD, **{field: value}))
            assert "1380013" not in str(caught.value) and "\n" not in str(caught.value)
    assert (repr(history.vector(GOOD)), history.calls, history.refused) == (expected, 1, 0)


def test_times_whose_sum_would_wrap_are_refused():
    history = History(calls=100, numbers=20)
    for more in ({"start": (1 << 63) - 5}, {"start": -(1 << 63), "ring": -5, "talk": 0}):
        with pytest.raises(ValueError, match="whole numbers within bounds"):
            history.observe(replace(GOOD, **more))
    history.observe(replace(GOOD, talk=1 << 40))
    assert (history.calls, history.refused) == (0, 1)
