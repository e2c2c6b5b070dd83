"""Listed numbers: what lists of other issuers say of a caller at ring time; the rules `listed`, `listed_confirmed`.

A list has no numbers but the first five bytes of their tokens under a sharing key, which all readers of a list have
(`serving/lists/exchange.py`). So a host asks with `Listed.token` of the number as written, which the scorer never sees.
An unlisted number matches one of a million entries with probability 1e-6.

An entry acts on calls after its publication and before its expiry, unless it is withdrawn, or the issuer's latest list
of that moment has expired. So the same files give the same answers to a service and to calls of the past.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from threading import Event
from typing import NamedTuple

from callsieve.features.files.dates import HOUR
from callsieve.features.intake.numbers import has_digits, parse
from callsieve.features.keys.tokens import Key, from_letters, is_token
from callsieve.serving.rules.rule_input import RuleInput

TOKEN_BYTES = 5
MOST_CLEARED = 0.02
"""Share of the listed callers that are cleared on appeal here, above which a list leads to no action."""
FEWEST_CLEARED = 3  # cleared callers; fewer show nothing
MOST_CALLERS = 100_000  # of an issuer, whose tokens are counted
CACHED = 1 << 17  # numbers as written whose tokens are remembered
_GROUP_BITS = 24
_TABLES = 256  # each is sorted while a call waits


class Group(NamedTuple):
    """Facts that a list states about some numbers. Moments are Unix ms.

    Attributes:
        behaviour: class of the calls, a word of `plan_classes.PLAN_CLASSES`, or "nuisance".
        first, last: when the first and the last of the calls were flagged.
        published, expires: the entries act on calls between these moments.
        bound: certified upper bound of the share of innocent calls that the issuer flags; None without a certificate.
    """

    issuer: str
    behaviour: str
    first: int
    last: int
    published: int
    expires: int
    bound: float | None


class Listing(NamedTuple):
    """The groups that list a number at the start of a call, the one with the latest call first."""

    groups: tuple[Group, ...]

    def issuers(self) -> tuple[str, ...]:
        """Returns the names of the issuers, without repetition."""
        return tuple(dict.fromkeys(group.issuer for group in self.groups))

    def rule_input(self, at: int, caller_class: int) -> RuleInput:
        """Returns the input of the rules for a call at a moment, Unix ms, of a caller of this class."""
        bounds = [group.bound for group in self.groups if group.bound is not None]
        return RuleInput(
            caller_class=float(caller_class),
            list_issuers=float(len(self.issuers())),
            list_bound=min(bounds, default=1.0),
            list_hours=(at - self.groups[0].last) / HOUR,
        )

    def words(self) -> tuple[str, str]:
        """Returns the issuers and the class of the calls, as the sentences of facts name them."""
        return ", ".join(self.issuers()), self.groups[0].behaviour


class ListTable:
    """The entries of all issuers: 8 bytes for each, sorted.

    >>> group = Group("carrier-a", "illegal", 1000, 2000, 3000, 9000, None)
    >>> table = ListTable([(group, bytes(4) + b"a")], {"carrier-a": [(8000, bytes(4) + b"a")]}, {})
    >>> [len(table.groups_of(97, at)) for at in (3000, 3001, 7999, 8000)]
    [0, 1, 1, 0]
    """

    def __init__(
        self,
        entries: Iterable[tuple[Group, bytes]],
        withdrawn: Mapping[str, Iterable[tuple[int, bytes]]],
        validity: Mapping[str, Sequence[tuple[int, int]]],
    ) -> None:
        """Builds the table.

        Args:
            entries: groups, each with its tokens, TOKEN_BYTES each.
            withdrawn: by issuer, moments of withdrawal (Unix ms) with the tokens that are withdrawn then.
            validity: by issuer, when each list was made and until when it is valid (Unix ms), in order.
        """
        self.groups: list[Group] = []
        self._tables = [array("Q") for _ in range(_TABLES)]
        for group, tokens in entries:
            for entry in _packed(tokens, len(self.groups)):
                self._tables[entry >> 56].append(entry)
            self.groups.append(group)
        self._tables = [array("Q", sorted(table)) for table in self._tables]
        self._withdrawn: dict[tuple[str, int], tuple[int, ...]] = {}
        for issuer, parts in withdrawn.items():
            for at, tokens in parts:
                for entry in _packed(tokens, 0):
                    place = issuer, entry >> _GROUP_BITS
                    self._withdrawn[place] = (*self._withdrawn.get(place, ()), at)
        self._validity = {issuer: tuple(zip(*spans, strict=True)) for issuer, spans in validity.items() if spans}

    def __len__(self) -> int:
        return sum(map(len, self._tables))

    def __contains__(self, token: int) -> bool:
        """Returns whether a number is listed at any time."""
        return self._place(token)[1]

    def groups_of(self, token: int, at: int) -> list[Group]:
        """Returns the groups that list a number at a moment, Unix ms."""
        place, is_listed = self._place(token)
        if not is_listed:
            return []
        table, groups = self._tables[token >> 32], []
        while place < len(table) and table[place] >> _GROUP_BITS == token:
            group = self.groups[table[place] & (1 << _GROUP_BITS) - 1]
            moments = self._withdrawn.get((group.issuer, token), ())
            is_withdrawn = any(group.published <= moment <= at for moment in moments)
            if group.published < at < group.expires and not is_withdrawn and self._is_valid(group.issuer, at):
                groups.append(group)
            place += 1
        return groups

    def _place(self, token: int) -> tuple[int, bool]:
        table = self._tables[token >> 32]
        place = bisect_left(table, token << _GROUP_BITS)
        return place, place < len(table) and table[place] >> _GROUP_BITS == token

    def _is_valid(self, issuer: str, at: int) -> bool:
        if issuer not in self._validity:
            return True
        made, until = self._validity[issuer]
        latest = bisect_right(made, at) - 1
        return latest < 0 or at < until[latest]


class ListState(NamedTuple):
    """The latest list of an issuer.

    Attributes:
        entries: numbers in all its lists; withdrawn and expired ones count, too.
        valid_until: Unix ms.
        flagged_to_published: mean time from the last flagged call of its new entries to their publication, seconds.
        published_to_acted: time from its publication until it was in service here, seconds; NaN at the start.
    """

    entries: int
    valid_until: int
    flagged_to_published: float
    published_to_acted: float


class Listed:
    """The lists that a scorer reads. Threads may share it.

    Attributes:
        table: the entries; another table replaces it in one step.
        digest: hash of the lists behind the table.
        states: by issuer, its latest list.
        watched: issuers whose lists lead to no action, because too many of their callers are cleared here.
        calls: by issuer, calls of numbers that it lists.
        by_prefix: whether some lists are read by prefix, when a number asks for it.
        wanted, read: prefixes of tokens that were asked for, and that are in the table. `asked` is set for new ones.
        callers, cleared: by issuer, tokens of the callers that it lists, and of those that are cleared.

    >>> listed = Listed(Key("share1", bytes(32), purpose="sharing"))
    >>> listed.at(listed.token("+86 138 0000 0000"), 1775001600000) is None
    True
    """

    def __init__(self, key: Key) -> None:
        """Takes the sharing key, under which all lists have their tokens."""
        self.table, self.digest = ListTable((), {}, {}), ""
        self.states: dict[str, ListState] = {}
        self.watched: frozenset[str] = frozenset()
        self.calls: Counter[str] = Counter()
        self.by_prefix, self.asked = False, Event()
        self.wanted: set[int] = set()
        self.read: set[int] = set()
        self.callers: defaultdict[str, set[int]] = defaultdict(set)
        self.cleared: defaultdict[str, set[int]] = defaultdict(set)
        self.token = lru_cache(maxsize=CACHED)(partial(shared_token, key))

    def at(self, token: int, at: int) -> Listing | None:
        """Returns what the lists say of a number at the start of a call, Unix ms; None if nothing that may act.

        Args:
            token: of the caller, as from `token`; 0 for a caller without a number.
        """
        if self.by_prefix:
            self.is_read(token)
        groups = self.table.groups_of(token, at) if token else []
        if not groups:
            return None
        for issuer in {group.issuer for group in groups}:
            self.calls[issuer] += 1
            if len(self.callers[issuer]) < MOST_CALLERS:
                self.callers[issuer].add(token)
        acting = [group for group in groups if group.issuer not in self.watched]
        return Listing(tuple(sorted(acting, key=_last, reverse=True))) if acting else None

    def is_read(self, token: int) -> bool:
        """Returns whether the table has all lists for a number; asks for those by prefix that it lacks.

        Args:
            token: of the caller, as from `token`.
        """
        prefix = token >> 8 * (TOKEN_BYTES - 1)
        if not self.by_prefix or not token or prefix in self.read:
            return True
        self.wanted.add(prefix)
        self.asked.set()
        return False

    def note_cleared(self, token: int) -> None:
        """Counts a listed caller whom a person has cleared, against each issuer that listed it.

        Args:
            token: of the caller, as from `token`.
        """
        for issuer, callers in list(self.callers.items()):
            if token in callers:
                self.cleared[issuer].add(token)
        self.watched = frozenset(
            issuer
            for issuer, cleared in list(self.cleared.items())
            if len(cleared) >= max(FEWEST_CLEARED, MOST_CLEARED * len(self.callers[issuer]))
        )


def shared_token(key: Key, number: str | None) -> int:
    """Returns the first TOKEN_BYTES of the token of a number in any notation; 0 for a text that is no number."""
    parsed = parse(number, datetime.now(UTC).date())
    if not has_digits(parsed) or is_token(number or ""):
        return 0
    token = from_letters(key.token("number", parsed.canonical).rpartition(".")[2])
    return int.from_bytes(token[:TOKEN_BYTES], "big")


def _packed(tokens: bytes, group: int) -> array[int]:
    """Returns tokens as whole numbers, each with the place of its group in the lowest bits."""
    count = len(tokens) // TOKEN_BYTES
    cells = bytearray(8 * count)
    for place in range(TOKEN_BYTES):  # a loop over entries would take ten times as long
        cells[place::8] = tokens[place::TOKEN_BYTES]
    for place, byte in enumerate(group.to_bytes(8 - TOKEN_BYTES, "big"), TOKEN_BYTES):
        cells[place::8] = bytes([byte]) * count
    packed = array("Q", bytes(cells))
    if sys.byteorder == "little":
        packed.byteswap()
    return packed


def _last(group: Group) -> int:
    return group.last
