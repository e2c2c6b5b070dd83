"""Online: a stream of calls, and the vector of a call at ring time.

The same kernel as `table.py`, run as it stands. Calls are held in flat arrays while a window can reach them; a call
that fell out of the widest window gives its place back. Nothing here imports more than the standard library.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections import deque

from .catalogue import FEATURES, program
from .records import KeyedCall
from .values import emit
from .windows import (
    DAY,
    END,
    ENDS,
    FACTS,
    FIELDS,
    OVER,
    PAIR,
    START,
    STATE,
    TALK,
    WEEK,
    clear,
    enter,
    leave,
    pack,
)

BLANK_STATE = array("q", bytes(8 * STATE))
clear(BLANK_STATE, 0)
PAIR_SIZE = PAIR + 1  # the kernel's counts, and how many held calls use the pair


def facts_of(call: KeyedCall) -> tuple[int, ...]:
    """Facts of the call itself, in the order of `catalogue.CALL_FACTS`."""
    return (
        call.caller_class,
        call.callee_class,
        call.attestation,
        call.route,
        call.step,
        call.hour,
        (call.day + 3) % 7,  # 1970-01-01 was a Thursday
        call.same_region,
        call.shared_prefix,
        call.presented_differs,
    )


class History:
    """What is known of every number, as of now.

    `vector` answers for the moment a call starts; `observe` takes in a call when it begins, when it ended, or whole,
    in any order, and twice if it must be. Moments may come out of order, but a number's windows never move back: a
    vector asked for an earlier moment than the number's last one is that of the last one. Not thread-safe.

    >>> history = History()
    >>> history.calls
    0
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._pair_places: dict[int, int] = {}
        self._state = array("q", BLANK_STATE)  # the first state and the first pair stay blank, for unheard-of numbers
        self._pairs = array("q", bytes(8 * PAIR_SIZE))
        self._calls = array("q")
        self._links = array("q")
        self._pair_of = array("q")
        self._parties = array("q")
        self._free: list[int] = []
        self._free_pairs: list[int] = []
        self._held: deque[int] = deque()
        self._waiting: list[tuple[int, int]] = []
        self._unentered: dict[tuple[int, int], int] = {}
        self._program = array("q", program())
        self._row = [math.nan] * len(FEATURES)

    @property
    def calls(self) -> int:
        """Calls held in memory."""
        return len(self._held)

    @property
    def numbers(self) -> int:
        """Numbers heard of."""
        return len(self._numbers)

    def vector(self, call: KeyedCall) -> list[float]:
        """Feature values of `call` at its start, in the order of `catalogue.FEATURES`; NaN where unknown."""
        self._advance(call.start)
        number = self._numbers.get(call.caller, 0)
        other = self._numbers.get(call.callee, 0)
        pair = self._pair_places.get(number << 32 | other, 0)
        base = number * STATE
        if number:
            leave(call.start, self._state, base, self._calls, self._links, self._pairs, self._pair_of)
        emit(call.start, self._program, self._state, base, self._pairs, pair, facts_of(call), 0, self._row, 0)
        return self._row.copy()

    def observe(self, call: KeyedCall) -> None:
        """Take in a call. One that is not over (`ring` or `talk` is None) is an attempt; its end may come later."""
        caller, callee = self._number(call.caller), self._number(call.callee)
        out_pair = self._pair(caller, callee)
        place = self._find(out_pair, call.start, caller)
        over = call.ring is not None and call.talk is not None
        if place is None:
            place = self._keep(call, caller, callee, out_pair)
        elif not over or self._calls[place * FIELDS + END] >= 0:
            return  # a repeat
        if over:
            self._end(place, call)

    def _number(self, token: str) -> int:
        number = self._numbers.get(token)
        if number is None:
            number = len(self._numbers) + 1
            self._numbers[token] = number
            self._state.extend(BLANK_STATE)
        return number

    def _pair(self, number: int, other: int) -> int:
        key = number << 32 | other
        pair = self._pair_places.get(key)
        if pair is None:
            if self._free_pairs:
                pair = self._free_pairs.pop()
            else:
                pair = len(self._pairs)
                self._pairs.extend([0] * PAIR_SIZE)
            self._pair_places[key] = pair
        return pair

    def _use_pair(self, number: int, other: int) -> int:
        pair = self._pair(number, other)
        self._pairs[pair + PAIR] += 1
        return pair

    def _find(self, pair: int, start: int, caller: int) -> int | None:
        """The place of a call that is held already."""
        place = self._unentered.get((pair, start))
        if place is not None:
            return place
        node = self._state[caller * STATE + ENDS + 3]
        while node >= 0 and self._calls[(node >> 2) * FIELDS] >= start:
            if self._calls[(node >> 2) * FIELDS] == start and self._pair_of[node >> 1] == pair:
                return node >> 2
            node = self._links[2 * node]
        return None

    def _keep(self, call: KeyedCall, caller: int, callee: int, out_pair: int) -> int:
        """Give a new call a place; its attempt waits until it is known."""
        if self._free:
            place = self._free.pop()
        else:
            place = len(self._pair_of) // 2
            self._calls.extend([0] * FIELDS)
            self._links.extend([0] * 8)
            self._pair_of.extend([0, 0])
            self._parties.extend([0, 0])
        at = place * FIELDS
        self._calls[at + START] = call.start
        self._calls[at + END] = -1
        self._calls[at + FACTS] = self._packed(call)
        self._pair_of[2 * place] = self._use_pair(caller, callee)
        self._pair_of[2 * place + 1] = self._use_pair(callee, caller)
        self._parties[2 * place] = caller
        self._parties[2 * place + 1] = callee
        self._held.append(place)
        self._unentered[(out_pair, call.start)] = place
        self._wait(self._attempt_known(call), 4 * place)
        return place

    def _end(self, place: int, call: KeyedCall) -> None:
        """The call is over: its outcome waits until it is known."""
        ring, talk = call.ring or 0, call.talk or 0
        at = place * FIELDS
        end = call.start + ring + talk
        self._calls[at + END] = end
        self._calls[at + TALK] = talk
        self._calls[at + FACTS] = self._packed(call)
        self._wait(max(end, call.recorded or end), 4 * place + 1)

    @staticmethod
    def _packed(call: KeyedCall) -> int:
        ring = call.ring or 0
        return int(pack(call.outcome, call.released_by, call.hour, call.day, call.step, call.same_region, ring))

    @staticmethod
    def _attempt_known(call: KeyedCall) -> int:
        if call.ring is None or call.talk is None or call.recorded is None:
            return call.start
        return call.recorded if call.recorded > call.start + call.ring + call.talk else call.start

    def _wait(self, known: int, node: int) -> None:
        heapq.heappush(self._waiting, (known, node))
        heapq.heappush(self._waiting, (known, node + 2))

    def _advance(self, at: int) -> None:
        """Let in every event that became known before `at`, and forget what no window reaches any more."""
        waiting = self._waiting
        while waiting and waiting[0][0] < at:
            node = heapq.heappop(waiting)[1]
            number = self._parties[node >> 1]
            enter(node, self._state, number * STATE, self._calls, self._links, self._pairs, self._pair_of)
            if node & 3 == 0:
                self._unentered.pop((self._pair_of[node >> 1], self._calls[(node >> 2) * FIELDS]), None)
        while self._held and self._is_past(self._held[0], at):
            self._forget(self._held.popleft(), at)

    def _is_past(self, place: int, at: int) -> bool:
        """A call is past when its last event has left the widest window; one that never ended counts as a day long."""
        end = self._calls[place * FIELDS + END]
        if end < 0:
            return self._calls[place * FIELDS + START] + DAY < at - WEEK
        return end < at - WEEK and self._calls[place * FIELDS + FACTS] & OVER > 0

    def _forget(self, place: int, at: int) -> None:
        for direction in range(2):
            number = self._parties[2 * place + direction]
            leave(at, self._state, number * STATE, self._calls, self._links, self._pairs, self._pair_of)
        for direction in range(2):
            pair = self._pair_of[2 * place + direction]
            number = self._parties[2 * place + direction]
            self._pairs[pair + PAIR] -= 1
            if self._pairs[pair + PAIR] == 0:
                del self._pair_places[number << 32 | self._parties[2 * place + 1 - direction]]
                self._free_pairs.append(pair)
        self._free.append(place)
