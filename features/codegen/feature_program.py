"""Generates the kernel code of a choice of features: the layout of a state, and functions that update and read it.

For each kind of history, `program` lays out exactly the state that the features need, and generates functions. One adds
an event to the sums of a window (from `Sum.code`). For each role, one writes its features into a row (from `FORMULAS`).
Roles other than the caller can also be written in two steps, a note of the sums and the values that follow from it.
Straight-line code is several times faster than a loop over a table of operations, compiled or interpreted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import ModuleType

from callsieve.features.catalogue import FEATURES, select_features
from callsieve.features.catalogue.feature import CALL_FACTS, FORMULAS, Feature
from callsieve.features.catalogue.lite import LITE
from callsieve.features.catalogue.sums import GROUP_SUMS, NUMBER_SUMS, PAIR_FIELDS, PAIR_REGIONS, STATE_REGIONS, Sum
from callsieve.features.dataclass import dataclass
from callsieve.features.kernel import group_state, number_state, windows
from callsieve.features.kernel.windows import FACT_BITS


@dataclass(frozen=True)
class Kind:
    """A kind of history.

    Attributes:
        module: its part of the kernel.
        sums: its sums, by name.
        streams: its streams of events.
        roles: the roles whose features read it.
        lists: how many of its streams are kept as linked lists.
        clock: whether each key has a clock of its own.
    """

    name: str
    module: ModuleType
    sums: dict[str, Sum]
    streams: tuple[str, ...]
    roles: tuple[str, ...]
    lists: int
    clock: bool


OF_NUMBER = ("out_attempts", "out_outcomes", "in_attempts", "in_outcomes")
GROUPS = ("block", "trunk", "device")


def _kinds(lists_of_number: int, lists_of_group: int, *, clock: bool) -> tuple[Kind, ...]:
    of_number = Kind("number", number_state, NUMBER_SUMS, OF_NUMBER, ("caller", "callee"), lists_of_number, clock)
    streams = ("attempts", "outcomes")
    return of_number, *(Kind(name, group_state, GROUP_SUMS, streams, (name,), lists_of_group, clock) for name in GROUPS)


KINDS = _kinds(4, 2, clock=True)
NUMBER, BLOCK, TRUNK, DEVICE = KINDS
# In a stream all keys share one clock and `time_order.py` finds expired events; lists serve to find neighbours.
LIVE_KINDS = _kinds(3, 0, clock=False)
WHOLE = "whole"
CHOICES: dict[str, tuple[Feature, ...]] = {WHOLE: FEATURES, "lite": select_features(LITE)}
"""The choices of features whose tables have a compiled program of their own.

A program of few features keeps less state of each key. Any other choice runs the program of the whole catalogue.
"""
LINE = 16  # 32-bit integers in a cache line
PARTS = re.compile(r"\b(part|whole|other|window)\b")


def choice_of(features: tuple[Feature, ...]) -> str:
    """Returns the name of the choice whose program computes these features, given in catalogue order.

    >>> choice_of(FEATURES), choice_of(select_features(LITE)), choice_of(FEATURES[:2])
    ('whole', 'lite', 'whole')
    """
    return next((name for name, chosen in CHOICES.items() if features == chosen), WHOLE)


def computed_features(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
    """Returns the features that a table computes to get these ones: without a program of their own, all of their roles.

    >>> len(computed_features(select_features(LITE))), len(computed_features(FEATURES[:1])) > 50
    (10, True)
    """
    if choice_of(features) != WHOLE:
        return features
    roles = {feature.role for feature in features}
    return tuple(feature for feature in FEATURES if feature.role in roles)


@dataclass(frozen=True)
class Program:
    """Constants of a layout and the source of the generated functions."""

    constants: dict[str, int]
    source: str


def program(kind: Kind, features: tuple[Feature, ...]) -> Program:
    """Returns the program of a kind of history for these features; features of other kinds are ignored."""
    by_role = {role: [feature for feature in features if feature.role == role] for role in kind.roles}
    places = layout(kind, [feature for role in kind.roles for feature in by_role[role]])
    written = [addition(kind, stream, places) for stream in kind.streams]
    written += [emission(kind, role, by_role[role], places) for role in kind.roles]
    if kind.module is number_state:
        written.append(membership(places, layout(BLOCK, [feature for feature in features if feature.role == "block"])))
    noted, places["notes"] = noting(kind, by_role[kind.roles[-1]], places)
    written += noted
    constants = {name.upper(): place for name, place in places.items()}
    return Program(constants, "\n\n".join(written) + "\n")


def layout(kind: Kind, features: Iterable[Feature]) -> dict[str, int]:
    """Returns the layout: offsets of regions from the base of a state, slots of sums, and sizes."""
    features = list(features)
    needed = {part[0] for feature in features for part in feature.sums if part}
    regions = {part for feature in features for part in feature.parts if part in STATE_REGIONS}
    if regions & {"out_days", "in_days", "call_ring"}:
        regions.add("day")
    if "hour_logs" in regions:
        regions.add("hours")
    if kind.module is group_state:
        needed.add("calls")  # a member counts while it has calls
    places: dict[str, int] = {}
    ends = windows.CLOCK_PLACES if kind.clock else 0
    free = ends + windows.END_PLACES * kind.lists
    for region, (size, _) in STATE_REGIONS.items():
        places[region] = free if region in regions else windows.NONE
        free += size if region in regions else 0
    slots = 0
    for name, total in kind.sums.items():
        places[name] = slots if name in needed else windows.NONE
        slots += (1 + total.wide) if name in needed else 0
    own = 3 * slots if kind.module is group_state else number_state.PAIR_SIZE
    return places | {
        "clock": 0 if kind.clock else windows.NONE,
        "ends": ends,
        "lists": kind.lists,
        "streams": len(kind.streams),
        "read": 2
        if kind.module is number_state and not any(feature.reads_incoming for feature in features)
        else len(kind.streams),
        "shift": len(kind.streams) // 2,
        "sums": free,
        "slots": slots,
        "state": free + 3 * slots,
        "pair": own,
    }


def addition(kind: Kind, stream: str, places: dict[str, int]) -> str:
    """Returns the function that adds an event of a stream to the sums of a window (`sign` 1) or removes it (-1)."""
    talks = "outcome, ring, talk, " if stream.endswith("outcomes") else ""
    lines: dict[str, list[str]] = {}
    for name, total in kind.sums.items():
        if total.events == stream and total.code and places[name] >= 0:
            amount = "sign" if total.code == "1" else f"sign * ({total.code})"
            place = f"at + {places[name]}"
            line = f"add_wide(sums, {place}, {amount})" if total.wide else f"sums[{place}] += {amount}"
            lines.setdefault(total.condition, []).append(line)
    body = [f"    {line}" for line in lines.pop("", [])]
    for condition, inside in lines.items():
        body += [f"    if {condition}:", *(f"        {line}" for line in inside)]
    return "\n".join([f"def add_{stream}(facts, {talks}sign, sums, at):", *body, "    return"])


def emission(kind: Kind, role: str, features: list[Feature], places: dict[str, int]) -> str:
    """Returns the function that writes the values of a role's features from `row` on."""
    variables: dict[str, str] = {}
    values = [value(kind, feature, places, variables) for feature in features]
    direction = "in" if role == "callee" else "out"
    lines = [f"def emit_{direction}(at, state, base, calls, pairs, pair, facts, out, row):"]
    lines += [f"    {name} = {code}" for name, code in variables.items()]
    lines += [f"    out[row + {column}] = {code}" for column, code in enumerate(values)]
    return "\n".join([*lines, "    return"])


def noting(kind: Kind, features: list[Feature], places: dict[str, int]) -> tuple[list[str], int]:
    """Returns the functions that save and emit the notes of a role other than the caller, and the size of a note.

    Raises:
        ValueError: if a feature reads something other than sums of its windows, for which a note has no room.
    """
    if not all(part for feature in features for part in feature.sums):
        raise ValueError(f"{kind.roles[-1]}: its features must read sums only, as a table saves them in notes")
    variables: dict[str, str] = {}
    values = [value(kind, feature, places, variables) for feature in features]
    note = ["def save_note(state, base, pairs, pair, notes, place):"]
    note += [f"    notes[place + {i}] = {code}" for i, code in enumerate(variables.values())]
    spell = ["def emit_note(notes, place, out, row):"]
    if features:
        spell += ["    if notes[place] < 0:", f"        for i in range(row, row + {len(features)}):"]
        spell += ["            out[i] = nan", "        return"]
    spell += [f"    {name} = int(notes[place + {i}])" for i, name in enumerate(variables)]
    spell += [f"    out[row + {column}] = {code}" for column, code in enumerate(values)]
    return ["\n".join([*lines, "    return"]) for lines in (note, spell)], -(-len(variables) // LINE) * LINE


def membership(places: dict[str, int], of_group: dict[str, int]) -> str:
    """Returns the function that copies a member record of a group from a number's state, as far as the two overlap."""
    lines = ["def copy_member_sums(state, base, own, at):"]
    for name in GROUP_SUMS:
        if name in NUMBER_SUMS and min(places[name], of_group[name]) >= 0:
            for window in range(len(windows.WINDOWS)):
                to = window * of_group["slots"] + of_group[name]
                of = places["sums"] + window * places["slots"] + places[name]
                lines.append(f"    own[at + {to}] = state[base + {of}]")
    return "\n".join([*lines, "    return"])


def value(kind: Kind, feature: Feature, places: dict[str, int], variables: dict[str, str]) -> str:
    """Returns the formula of a feature with its parts inserted; each part read becomes one variable."""
    terms = {"window": str(windows.WINDOWS[feature.window]) + ".0"} if feature.window is not None else {}
    for word, name, window_sum in zip(("part", "whole", "other"), feature.parts, feature.sums, strict=False):
        if window_sum:
            variable, code = sum_of(kind, window_sum, places)
        elif name in ("in_air", "hour_logs", "day", "out_days", "in_days"):
            variable, code = name, read_code(places[name], wide=STATE_REGIONS[name][0] == 2)
        elif name in STATE_REGIONS:
            terms[word] = f"base + {places[name]}"
            continue
        elif name in PAIR_REGIONS:
            terms[word] = f"pair ^ {PAIR_REGIONS[name][0]}"
            continue
        elif name in PAIR_FIELDS:
            variable, code = name, f"pairs[pair ^ {PAIR_FIELDS[name][0]}]"
        else:
            variable, code = name, f"(facts >> {FACT_BITS * list(CALL_FACTS).index(name)} & {(1 << FACT_BITS) - 1}) - 1"
        variables[variable] = code
        terms[word] = variable
    return PARTS.sub(lambda match: terms[match[0]], FORMULAS[feature.how])


def sum_of(kind: Kind, window_sum: tuple[str, int], places: dict[str, int]) -> tuple[str, str]:
    """Returns variable and code of a sum of a window; in a group without the caller's own part."""
    name, window = window_sum
    place = places["sums"] + window * places["slots"] + places[name]
    variable, code = f"{name}_{windows.WINDOW_NAMES[window]}", read_code(place, wide=kind.sums[name].wide)
    if kind.module is group_state:
        own = window * places["slots"] + places["calls" if name == "members" else name]
        code += f" - (pairs[pair + {own}] > 0)" if name == "members" else f" - pairs[pair + {own}]"
    return variable, code


def read_code(place: int, *, wide: bool) -> str:
    """Returns the code that reads an integer of one element of the state, or of two (`wide`)."""
    return f"read_wide(state, base + {place})" if wide else f"state[base + {place}]"
