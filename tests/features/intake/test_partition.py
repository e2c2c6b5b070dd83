"""The partition of a number: one for all its written forms, evenly spread, and independent of a key."""

import hashlib
from collections import Counter

import pytest

from callsieve.features.intake.partition import partition
from callsieve.features.keys.tokens import Key

FORMS = ("{0}", "+86{0}", "0086{0}", "+86 {0}", "86-{0}", "sip:{0}")


def test_every_form_of_a_number_has_the_same_partition():
    for line in range(200):
        number = f"138{line * 7919 % 10**8:08}"
        ends = hashlib.sha256(number[-8:].encode()).hexdigest()[:16]
        assert {partition(form.format(number), 64) for form in FORMS} == {int(ends, 16) % 64}
    assert len({partition(text, 9) for text in ("010 1234 5678", "(010)12345678", "+86 10 1234-5678")}) == 1


def test_numbers_tokens_and_short_codes_are_spread_evenly():
    key = Key("e1", bytes(32))
    numbers = [f"139{line:08}" for line in range(4000)]
    for texts in (numbers, [key.token("number", number) for number in numbers], [f"c{line}" for line in range(4000)]):
        counts = Counter(partition(text, 8) for text in texts)
        assert len(counts) == 8 and min(counts.values()) > 400 and max(counts.values()) < 600  # 500 ± 4.5 standard ones


def test_withheld_numbers_share_a_partition_and_no_partition_is_an_error():
    assert partition("", 5) == partition("+", 5) in range(5)
    with pytest.raises(ValueError, match="count must be 1 or more, got 0"):
        partition("1", 0)
