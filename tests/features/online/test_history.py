"""A history refuses a call that no intake produces with a one-line error, and stays unchanged."""

from dataclasses import replace

import pytest

from callsieve.features.online.history import History
from callsieve.features.records import KEYED_COLUMNS
from tests.support.calls.strategies import EXAMPLE_CALL, as_keyed_call
from tests.support.errors import refused

VALID_CALL = as_keyed_call(EXAMPLE_CALL)
OPTIONAL_FIELDS = ("ring", "talk", "recorded", "caller_block", "trunk", "operator", "device", "place")
TEXT_FIELDS = ("caller", "callee", "caller_block", "trunk", "device")
UNUSED_FIELDS = ("operator", "place")  # no feature reads them


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("field", [name for name in KEYED_COLUMNS if name not in UNUSED_FIELDS])
def test_invalid_fields_are_refused(field, compiled):
    history = History(calls=100, numbers=20, compiled=compiled)
    history.observe(VALID_CALL)
    expected = repr(history.vector(VALID_CALL))  # NaN is not equal to itself
    bad = [3.5, b"13800138000", [1], 1 << 64] + ([] if field in OPTIONAL_FIELDS else [None])
    bad += [13800138000] if field in TEXT_FIELDS else ["13800138000", -(1 << 63) - 1]
    for value in bad:
        for take in (history.observe, history.vector):
            with refused("call: expected texts, and whole numbers"):
                take(replace(VALID_CALL, **{field: value}))
    assert (repr(history.vector(VALID_CALL)), history.calls, history.refused) == (expected, 1, 0)


def test_times_whose_sum_overflows_are_refused():
    history = History(calls=100, numbers=20)
    for more in ({"start": (1 << 63) - 5}, {"start": -(1 << 63), "ring": -5, "talk": 0}):
        with pytest.raises(ValueError, match="whole numbers within bounds"):
            history.observe(replace(VALID_CALL, **more))
    history.observe(replace(VALID_CALL, talk=1 << 40))
    assert (history.calls, history.refused) == (0, 1)
