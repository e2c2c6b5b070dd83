"""The world that is being simulated: what each population reads, and where it adds its numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from callsieve.features.arrays import Array, Bools, Floats, Int8s, Int32s, Int64s
from callsieve.training.world.basis.draws import stream
from callsieve.training.world.basis.numbering import Directory
from callsieve.training.world.basis.scenario import Manner, Scenario, Table
from callsieve.training.world.basis.timing import Calendar


@dataclass(frozen=True)
class Kinds:
    """The kind of each subscriber: a position in `names`; -1 for an ordinary one."""

    names: tuple[str, ...]
    code: Int8s

    def any_of(self, *names: str) -> Bools:
        """Returns whether each subscriber is of one of some kinds."""
        return np.isin(self.code, [self.names.index(name) for name in names])


@dataclass(frozen=True)
class Society:
    """The subscribers, ids 0..`subscribers`-1, and the outsiders whom they know, with the ids after them."""

    subscribers: int
    outsiders: int
    kinds: Kinds
    activity: Floats
    talk: Floats  # factor on the talk time
    reach: Floats  # factor on the chance of an answer
    exposure: Floats  # weight on dialling lists
    outward: Floats  # tendency to call rather than to be called (logit)
    shift: Int64s  # of daily activity, ms
    blocks: Int64s  # seven-digit blocks with numbers of subscribers
    by_digits: Int64s  # subscribers in order of their digits

    @property
    def people(self) -> int:
        """Count of subscribers and outsiders; their ids come before all others."""
        return self.subscribers + self.outsiders

    def members(self, kind: str) -> Int64s:
        """Returns the ids of subscribers of a kind."""
        return np.flatnonzero(self.kinds.any_of(kind))

    def draw_outsiders(self, rng: np.random.Generator, count: int) -> Int64s:
        """Draws ids of outsiders."""
        return self.subscribers + rng.integers(0, self.outsiders, count)

    def pick_up(self, callees: Array) -> Floats:
        """Returns each callee's factor on the chance of an answer; 1 for numbers that are not people."""
        people = callees < len(self.reach)
        return np.where(people, self.reach[np.where(people, callees, 0)], 1.0)


@dataclass
class Sim:
    """A world that is being simulated.

    Each population draws from the random stream of its own name, so a new population changes no other.

    Attributes:
        numbers: all numbers; each population adds its own.
        society: subscribers and outsiders, who come first.
        relays: ids of the relay numbers.
        lists: dialling lists of subscribers, which outfits share.
    """

    scenario: Scenario
    seed: int
    days: Calendar
    numbers: Directory = field(default_factory=Directory)
    society: Society = field(init=False)
    relays: Int32s = field(init=False)
    lists: list[Int64s] = field(init=False)

    def stream(self, name: str) -> np.random.Generator:
        """Returns the random generator of a population or a table."""
        return stream(self.seed, name)

    def table(self, dotted: str) -> Table:
        """Returns a table of the scenario."""
        return self.scenario.table(dotted)

    @cached_property
    def manner(self) -> Manner:
        """How calls of people end."""
        return self.scenario.read(Manner, "people.manner")

    @cached_property
    def strings(self) -> pa.Array:
        """Every number as written; read only after the last number was added."""
        return self.numbers.strings()

    def lifetime(self, ids: Array) -> tuple[Int64s, Int64s]:
        """Returns begin and end of each number's life within the world."""
        born = np.maximum(self.numbers["born"][ids], self.days.start)
        return born, np.minimum(self.numbers["died"][ids], self.days.end)
