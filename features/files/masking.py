"""Texts of people and of other programs, which may hold a telephone number that must not go into a file."""

from __future__ import annotations

import re
import unicodedata

# In one piece a number has seven digits or more. In pieces it has eleven, for a date and an hour have ten.
_NUMBER = re.compile(r"\d{7,}|\d(?:[\s.()\-]*\d){10,}")


def long_digits(text: str) -> bool:
    """Whether there are so many digits in a row that they may be a telephone number.

    >>> [long_digits(text) for text in ("138 1234-5679", "１３８１２３４５６７９", "2026-03-02 09:30", "12321")]
    [True, True, False, False]
    """
    return _NUMBER.search(unicodedata.normalize("NFKC", text)) is not None


def masked(text: str) -> str:
    """The text with such digits replaced.

    >>> masked("calls of 13812345679.csv")
    'calls of #.csv'
    """
    return _NUMBER.sub("#", unicodedata.normalize("NFKC", text)) if long_digits(text) else text
