"""Detection and masking of telephone numbers in free text, before it enters a file or a message."""

from __future__ import annotations

import re
import unicodedata

# A number without separators has seven digits or more. With separators it has eleven: a date and an hour have ten.
_NUMBER = re.compile(r"\d{7,}|\d(?:[\s.()\-]*\d){10,}")


def has_long_digits(text: str) -> bool:
    """Returns whether the text has a run of digits that may be a telephone number.

    >>> [has_long_digits(text) for text in ("138 1234-5679", "１３８１２３４５６７９", "2026-03-02 09:30", "12321")]
    [True, True, False, False]
    """
    return _NUMBER.search(unicodedata.normalize("NFKC", text)) is not None


def masked(text: str) -> str:
    """Returns the text with each run of digits that may be a telephone number replaced by "#".

    >>> masked("calls of 13812345679.csv")
    'calls of #.csv'
    """
    return _NUMBER.sub("#", unicodedata.normalize("NFKC", text)) if has_long_digits(text) else text
