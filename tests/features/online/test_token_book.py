"""Keys by token are what a dictionary would say, whatever the tokens look like."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from callsieve.features.online.history import History
from callsieve.features.stream.token_table import LONGEST_PREFIX

ROOM = 12
LETTERS = st.sampled_from(["a" * 32, "p" * 32, "a" * 31 + "b", "ab" * 16, "b" + "a" * 31])
ODD = ["", "a", "号", "\ud800", "e1.", "a" * 32, "." + "a" * 32, "e1." + "a" * 31, "e1." + "a" * 33, "e1." + "q" * 32,
       "e1." + "A" * 32, "x" * LONGEST_PREFIX + "." + "a" * 32, "e1-" + "a" * 32]  # fmt: skip
TOKENS = st.builds("{}.{}".format, st.sampled_from(["e1", "e1", "e1", "e2", "e10", "号"]), LETTERS) | st.sampled_from(
    ODD
)


def table(compiled):
    """The tokens of numbers in an empty history, and what gives out their keys."""
    history = History(calls=1, numbers=ROOM, compiled=compiled)
    return history._keys["number"], history._driver.new_key["number"], history._driver.free_key["number"]


@pytest.mark.parametrize("compiled", [True, False])
@given(steps=st.lists(st.tuples(TOKENS, st.booleans()), max_size=60))
@example([(odd, False) for odd in ODD[1:]])
@settings(max_examples=100)
def test_it_is_a_dictionary(compiled, steps):
    tokens, new_key, free_key = table(compiled)
    expected = {}
    for token, removed in steps:
        assert tokens.key(token) == expected.get(token, 0)
        if token in expected and removed:
            key = expected.pop(token)
            tokens.remove(key)
            tokens.remove(key)
            free_key(key)
        elif token and token not in expected and len(expected) < ROOM:
            expected[token] = new_key()
            tokens.add(token, expected[token])
        assert len(tokens) == len(expected)
    texts = tokens.texts(ROOM + 1)
    assert {text: key for key, text in enumerate(texts) if text} == expected
    assert all(tokens.key(token) == key for token, key in expected.items())


def test_tokens_of_one_key_file_take_their_bytes_alone():
    tokens, new_key, _ = table(compiled=True)
    for token in ("e1." + "ab" * 16, "e1." + "ba" * 16, "e2." + "ab" * 16):
        tokens.add(token, new_key())
    assert tokens._odd == {"e2." + "ab" * 16: 3}
    assert bytes(tokens._book["tokens"][4:12]) == bytes([1] * 16 + [16] * 16)
