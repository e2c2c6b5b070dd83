"""The message about a file whose rows are all invalid: the commonest reasons, each with the mapping that is missing."""

from __future__ import annotations

from .layouts import CATEGORIES
from .quarantine import (
    BAD_NUMBER_OF_COLUMNS,
    BAD_TIME,
    END_BEFORE_START,
    MISSING_CALLEE,
    TIME_OUT_OF_RANGE,
    UNKNOWN_WORD,
    Fault,
    Quarantine,
)

REASONS, WORDS = 3, 3  # that a message names
LONGEST_WORD, MOST_DIGITS = 20, 2  # of a word that a message shows: no telephone number is so short

HINTS = {
    BAD_TIME: "name how the file writes times under `formats`; in a layout of calls, in [clock]",
    TIME_OUT_OF_RANGE: "check the clock of the layout: unit, epoch, earliest",
    END_BEFORE_START: "check which columns are `start` and `end` under [columns]",
    MISSING_CALLEE: "name the column of the called number under [columns] as `callee`",
    BAD_NUMBER_OF_COLUMNS: "check that commas separate the cells, and that a cell with a comma is quoted",
}


def check_any_valid(valid: int, invalid: Quarantine) -> None:
    """Checks that not every row of a file is invalid.

    Args:
        valid: number of valid rows.
        invalid: the invalid rows.
    Raises:
        ValueError: if all rows, at least one, are invalid. The message names up to REASONS reasons, the column, the
            expected value, and what to add to the layout. It shows no cell that can be a telephone number.
    """
    if valid or not invalid.kinds:
        return
    commonest = invalid.kinds.most_common(REASONS)
    reasons = "; ".join(_in_words(invalid, fault, column, count) for (fault, column), count in commonest)
    raise ValueError(f"{invalid.source}: all {sum(invalid.counts.values()):,} rows were quarantined: {reasons}")


def _in_words(invalid: Quarantine, fault: Fault, column: str, count: int) -> str:
    where = f"column {column!r}, " if column else ""
    hint = _hint(invalid, fault)
    return f"{count:,} {fault.reason} ({where}expected {fault.expected}" + (f": {hint})" if hint else ")")


def _hint(invalid: Quarantine, fault: Fault) -> str:
    layout = invalid.layout
    if layout is not None and fault.role == "talk" and not {"ring", "total"} & {*invalid.roles, *layout.constants}:
        return f"no `ring` column is mapped; add `ring = 0` under [constants] of layout {layout.name!r}"
    if fault.reason == UNKNOWN_WORD or fault.role in CATEGORIES:
        table = fault.role if fault.reason == UNKNOWN_WORD else f"values.{fault.role}"
        shown = [word for word, count in invalid.words[fault.role].most_common() if _showable(word, count, invalid)]
        return f"add the words of the file under [{table}]" + (f", such as {', '.join(shown[:WORDS])}" if shown else "")
    return HINTS.get(fault.reason, "")


def _showable(word: str, count: int, invalid: Quarantine) -> bool:
    """Returns whether a word is short, common and almost without digits, so no number and hardly a name."""
    digits = sum(letter.isnumeric() for letter in word)
    return len(word) <= LONGEST_WORD and digits <= MOST_DIGITS and 100 * count >= sum(invalid.counts.values())
