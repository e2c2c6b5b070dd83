"""A number that the intake has read and keyed."""

from __future__ import annotations

from callsieve.features.dataclass import dataclass, field
from callsieve.features.records import NUMBER_CLASSES

from . import numbers as plan

_CLASS_CODES = {name: code for code, name in enumerate(NUMBER_CLASSES)}


@dataclass(frozen=True, slots=True)
class KeyedNumber:
    """A number with its tokens, as read in one period of the number plan.

    `token` and `block` are the tokens of the number and of its block. `class_code` is an index into NUMBER_CLASSES,
    `significant` its country code and national significant number. `cache_id` is its id in the last `NumberCache` that
    took it.
    """

    number: plan.Number
    token: str
    block: str
    period: int = field(repr=False, compare=False)
    class_code: int = field(init=False)
    cache_id: int = field(init=False, repr=False, compare=False, default=0)
    significant: tuple[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_code", _CLASS_CODES[self.number.kind])
        object.__setattr__(self, "significant", plan.significant(self.number))
