"""A token book maps tokens to keys like a dictionary, for regular and irregular tokens."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from callsieve.features.online.history import History
from callsieve.features.stream.token_table import LONGEST_PREFIX

CAPACITY = 12
LETTERS = st.sampled_from(["a" * 32, "p" * 32, "a" * 31 + "b", "ab" * 16, "b" + "a" * 31])
ALMOST = ["." + "a" * 32, "e1." + "a" * 31, "e1." + "a" * 33, "e1." + "q" * 32, "e1." + "A" * 32, "e1-" + "a" * 32]
IRREGULAR = ["", "a", "号", "\ud800", "e1.", "a" * 32, *ALMOST, "x" * LONGEST_PREFIX + "." + "a" * 32]
TOKENS = st.builds("{}.{}".format, st.sampled_from(["e1", "e1", "e1", "e2", "e10", "号"]), LETTERS) | st.sampled_from(
    IRREGULAR
)


def empty_book(compiled):
    """Returns the token book of numbers of an empty history, and its functions that allocate and free keys."""
    history = History(calls=1, numbers=CAPACITY, compiled=compiled)
    return history._keys["number"], history._driver.allocate_key["number"], history._driver.free_key["number"]


@pytest.mark.system
@pytest.mark.parametrize("compiled", [True, False])
@given(steps=st.lists(st.tuples(TOKENS, st.booleans()), max_size=60))
@example([(token, False) for token in IRREGULAR[1:]])
@settings(max_examples=100)
def test_a_token_book_behaves_like_a_dictionary(compiled, steps):
    tokens, allocate_key, free_key = empty_book(compiled)
    expected = {}
    for token, removed in steps:
        assert tokens.key(token) == expected.get(token, 0)
        if token in expected and removed:
            key = expected.pop(token)
            tokens.remove(key)
            tokens.remove(key)
            free_key(key)
        elif token and token not in expected and len(expected) < CAPACITY:
            expected[token] = allocate_key()
            tokens.add(token, expected[token])
        assert len(tokens) == len(expected)
    texts = tokens.texts(CAPACITY + 1)
    assert {text: key for key, text in enumerate(texts) if text} == expected
    assert all(tokens.key(token) == key for token, key in expected.items())


def test_tokens_of_one_key_file_take_16_bytes():
    tokens, allocate_key, _ = empty_book(compiled=True)
    for token in ("e1." + "ab" * 16, "e1." + "ba" * 16, "e2." + "ab" * 16):
        tokens.add(token, allocate_key())
    assert tokens._irregular == {"e2." + "ab" * 16: 3}
    assert bytes(tokens._store["tokens"][4:12]) == bytes([1] * 16 + [16] * 16)
