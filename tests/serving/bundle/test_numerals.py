"""Numbers in a model text: compiled kernel, interpreted kernel and regular expressions agree."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.codegen import compiled_library
from callsieve.features.kernel import number_scan
from callsieve.serving.bundle import numerals

FORMS = [number_scan.WHOLE, number_scan.BELOW_1E6, number_scan.BELOW_1E125, number_scan.BELOW_1E1000]
# The grammar of each form, written as a plain regular expression.
BY_HAND = {
    number_scan.WHOLE: r"0|-?[1-9][0-9]{0,9}",
    number_scan.BELOW_1E6: r"-?(0|[1-9][0-9]{0,5})(\.[0-9]{1,25})?(e-[0-9]{1,3})?",
    number_scan.BELOW_1E125: r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,25})?(e(-[0-9]{1,3}|\+[0-9]{1,2}))?",
    number_scan.BELOW_1E1000: r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,25})?(e[-+][0-9]{1,3})?",
}
NUMBERS = ["", "0", "-0", "00", "7", "-12", "1.5", ".5", "1.", "-", "e", "+1", "1_0", "١", "1-", "inf"]
NUMBERS += ["1e5", "1E+5", "1e+5", "1e-05", "1e+123", "1e-1234"]
NUMBERS += ["9" * n for n in (6, 7, 10, 11, 25, 26)] + ["0." + "1" * n for n in (25, 26)]
TEXTS = st.lists(st.sampled_from(NUMBERS) | st.text("0123456789.-+e ", max_size=8) | st.floats().map(repr), max_size=4)


def expected(text, form):
    words = text.split(" ")
    return len(words) if all(re.fullmatch(BY_HAND[form], word, re.ASCII) for word in words) else 0


def all_counts(text, form):
    data = text.encode(errors="replace") + b" "
    counts = [compiled_library.library().count_numbers(data, form), number_scan.count_numbers(data, form)]
    return [*counts, text.count(" ") + 1 if numerals._pattern(form).fullmatch(text) else 0]


@pytest.mark.system
@pytest.mark.parametrize("form", FORMS)
@given(words=TEXTS, text=st.none() | st.text(max_size=20))
def test_all_implementations_count_alike(form, words, text):
    text = " ".join(words) if text is None else text
    assert all_counts(text, form) == [expected(text, form)] * 3


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("data", [b"", b"1", b"-", b"1.", b"1e", b"1e-", b"1 2"])
def test_no_byte_after_the_end_is_read(form, data):
    """Text that does not end in a space counts no numbers, whatever bytes follow it in memory."""
    assert compiled_library.library().count_numbers(data, form) == number_scan.count_numbers(data, form) == 0
    for end in range(len(data)):
        cut = data[:end] + b" "
        assert compiled_library.library().count_numbers(cut, form) == number_scan.count_numbers(cut, form)


def test_the_checks_hold_without_a_compiled_library(monkeypatch):
    monkeypatch.setattr(compiled_library, "library", lambda: None)
    assert numerals.integers("1 -2 3", 3, -5, 5, "x") == [1, -2, 3]
    with pytest.raises(ValueError, match="x must have 2 whole number"):
        numerals.large_numbers("1  2", 2, "x")
    with pytest.raises(ValueError, match="x must have 1 finite number"):
        numerals.reals("nan", 1, "x")
