"""Strata: a call and its table row have the same stratum; mobile numbers with few calls form strata of their own."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features import Call, History, Intake, Key
from callsieve.features.catalogue import NAMES
from callsieve.features.records import NUMBER_CLASSES
from callsieve.serving.rules.strata import STRATA, strata_of, stratum_of

CLASS, CALLS = NAMES.index("call_caller_class"), NAMES.index("out_calls_count_7d")
CALLER, DAY = "13800138000", 86_400.0
CLASSES = st.sampled_from(range(len(NUMBER_CLASSES))).map(float)


def row(number_class, calls):
    values = [math.nan] * len(NAMES)
    values[CLASS], values[CALLS] = number_class, calls
    return values


@given(st.floats() | CLASSES, st.floats() | st.integers(0, 30).map(float))
def test_stratum_of_equals_strata_of(number_class, calls):
    values = row(number_class, calls)
    assert STRATA[strata_of(np.array([values]))[0]] == stratum_of(values)


@pytest.mark.parametrize("name", NUMBER_CLASSES)
def test_only_mobile_numbers_have_a_quiet_stratum(name):
    few, many = (stratum_of(row(float(NUMBER_CLASSES.index(name)), calls)) for calls in (14.0, 15.0))
    assert few == (f"quiet_{name}" if name in ("mobile", "resale") else name)
    assert many == name


def test_a_number_is_quiet_up_to_its_fifteenth_call_of_a_week():
    intake, history = Intake(Key("e1", bytes(32))), History()
    strata = []
    for nth in range(20):
        call = intake(Call(1775001600.0 + 600 * nth, CALLER, f"139{nth:08}", 5.0, 20.0, "answered"))
        strata.append(stratum_of(history.vector(call)))
        history.observe(call)
    assert strata == ["quiet_mobile"] * 15 + ["mobile"] * 5
    later = intake(Call(1775001600.0 + 8 * DAY, CALLER, "13900000000"))
    assert stratum_of(history.vector(later)) == "quiet_mobile"
