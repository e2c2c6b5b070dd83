"""Generates the kernel code of the catalogue, and the layout of a state for a choice of features.

For each kind of history, `source` generates functions. One adds an event to the sums of a window (from `Sum.code`). For
each role, one writes its features into a row (from `FORMULAS`). Roles other than the caller can also be written in two
steps, a note of the sums and the values that follow from it. Straight-line code is several times faster than a loop
over a table of operations, compiled or interpreted.

`layout` lays out exactly the state that a choice of features needs. Sums, regions and columns that it does not need
have the offset NONE, and the functions skip them. So the same functions serve all choices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

from callsieve.features.catalogue import FEATURES
from callsieve.features.catalogue.feature import CALL_FACTS, FORMULAS, Feature
from callsieve.features.catalogue.sums import GROUP_SUMS, NUMBER_SUMS, PAIR_FIELDS, PAIR_REGIONS, STATE_REGIONS, Sum
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
LINE = 16  # 32-bit integers in a cache line
CHUNK = 8  # features that are skipped at once if none of them has a column
PARTS = re.compile(r"\b(part|whole|other|window)\b")


def is_whole(kind: Kind, features: tuple[Feature, ...]) -> bool:
    """Returns whether features have all those of a kind of history: role by role in catalogue order, without a gap.

    The callees of numbers may be missing.
    """
    present = [feature for feature in features if feature.role in kind.roles]
    roles = kind.roles if any(feature.role == kind.roles[-1] for feature in present) else kind.roles[:1]
    for role in roles:
        wanted = tuple(feature for feature in FEATURES if feature.role == role)
        first = first_column(role, features)
        if first < 0 or features[first : first + len(wanted)] != wanted:
            return False
    return True


def first_column(role: str, features: tuple[Feature, ...]) -> int:
    """Returns the first column of a role in a table of these features; NONE without one."""
    return next((column for column, feature in enumerate(features) if feature.role == role), windows.NONE)


def layout(kind: Kind, features: Iterable[Feature], columns: dict[str, int] | None = None) -> dict[str, int]:
    """Returns the constants of a kind's kernel for these features: sizes, and offsets, NONE for those not needed.

    The offsets are those of regions from the base of a state, of sums in the row of a window, of the variables in a
    note, and of the column of each feature.

    `columns`: column of each feature by name; by default its number among the features of its role.
    """
    features = [feature for feature in features if feature.role in kind.roles]
    names = {feature.name for feature in features}
    needed = {part[0] for feature in features for part in feature.sums if part}
    parts = {part for feature in features for part in feature.parts}
    regions = parts.intersection(STATE_REGIONS)
    if regions & {"out_days", "in_days", "call_ring"}:
        regions.add("day")
    if "hour_logs" in regions:
        regions.add("hours")
    if kind.module is group_state:
        needed.add("calls")  # a member counts while it has calls
    ends = windows.CLOCK_PLACES if kind.clock else 0
    free = ends + windows.END_PLACES * kind.lists
    constants = {}
    if kind.module is number_state:
        for region, (size, _) in STATE_REGIONS.items():
            constants[region.upper()] = free if region in regions else windows.NONE
            free += size if region in regions else 0
        constants["ANY_PAIR_DAYS"] = windows.NONE if parts.isdisjoint(PAIR_REGIONS) else 0
    slots, by_hand = 0, vars(kind.module)
    for name, total in kind.sums.items():
        constants[sum_constant(name)] = slots if name in needed else windows.NONE
        if by_hand.get(name.upper()) == windows.NONE:
            constants[name.upper()] = constants[sum_constant(name)]
        slots += (1 + total.wide) if name in needed else 0
    if kind.module is number_state:
        constants["ANY_GAPS"] = max(constants[name] for name in ("GAPS", "GAP_SQUARES", "SHORT_GAPS", "GAP_BINS"))
    for role in kind.roles:
        of_role = [feature for feature in FEATURES if feature.role == role]
        for place, feature in enumerate(of_role):
            column = place if columns is None else columns.get(feature.name, windows.NONE)
            constants[column_constant(role, place)] = column if feature.name in names else windows.NONE
            chunk = chunk_constant(role, place)
            constants[chunk] = max(constants[column_constant(role, place)], constants.get(chunk, windows.NONE))
    last = [feature for feature in FEATURES if feature.role == kind.roles[-1]]
    noted = note_variables(kind, [feature for feature in last if feature.name in names])
    constants |= {note_constant(name): windows.NONE for name in note_variables(kind, last)}
    constants |= {note_constant(name): place for place, name in enumerate(noted)}
    reads_incoming = kind.module is not number_state or any(feature.reads_incoming for feature in features)
    return constants | {
        "CLOCK": 0 if kind.clock else windows.NONE,
        "ENDS": ends,
        "LISTS": kind.lists,
        "STREAMS": len(kind.streams),
        "READ": len(kind.streams) if reads_incoming else 2,
        "SHIFT": len(kind.streams) // 2,
        "SUMS": free,
        "SLOTS": slots,
        "STATE": free + 3 * slots,
        "PAIR": 3 * slots if kind.module is group_state else number_state.PAIR_SIZE,
        "NOTES": -(-len(noted) // LINE) * LINE,
    }


def sum_constant(name: str) -> str:
    """Returns the name of the constant with the offset of a sum."""
    return f"SUM_{name.upper()}"


def column_constant(role: str, place: int) -> str:
    """Returns the name of the constant with the column of a feature, by its place among the features of its role."""
    return f"{direction(role).upper()}_COLUMN_{place}"


def chunk_constant(role: str, place: int) -> str:
    """Returns the name of the constant that is NONE if no feature of a chunk has a column."""
    return f"{direction(role).upper()}_CHUNK_{place // CHUNK}"


def note_constant(variable: str) -> str:
    """Returns the name of the constant with the offset of a variable in a note."""
    return f"NOTE_{variable.upper()}"


def direction(role: str) -> str:
    """Returns the direction of the calls whose vector has the features of a role."""
    return "in" if role == "callee" else "out"


def source(kind: Kind) -> str:
    """Returns the generated functions of a kind of history. They read all offsets from constants, see `layout`."""
    by_role = {role: [feature for feature in FEATURES if feature.role == role] for role in kind.roles}
    written = [addition(kind, stream) for stream in kind.streams]
    written += [emission(kind, role, by_role[role]) for role in kind.roles]
    if kind.module is number_state:
        written.append(membership(layout(kind, FEATURES), layout(BLOCK, FEATURES)))
    written += noting(kind, by_role[kind.roles[-1]])
    return "\n\n".join(written) + "\n"


def addition(kind: Kind, stream: str) -> str:
    """Returns the function that adds an event of a stream to the sums of a window (`sign` 1) or removes it (-1)."""
    talks = "outcome, ring, talk, " if stream.endswith("outcomes") else ""
    lines = []
    for name, total in kind.sums.items():
        if total.events == stream and total.code:
            amount = "sign" if total.code == "1" else f"sign * ({total.code})"
            if total.condition:  # a factor: the processor would often guess a branch wrong
                amount += f" * ({total.condition})"
            place = f"at + {sum_constant(name)}"
            line = f"add_wide(sums, {place}, {amount})" if total.wide else f"sums[{place}] += {amount}"
            lines += [f"    if {sum_constant(name)} >= 0:", f"        {line}"]
    return "\n".join([f"def add_{stream}(facts, {talks}sign, sums, at):", *lines, "    return"])


def emission(kind: Kind, role: str, features: list[Feature]) -> str:
    """Returns the function that writes the values of a role's features into their columns of the row at `row`."""
    lines = [f"def emit_{direction(role)}(at, state, base, calls, pairs, pair, facts, out, row):"]
    for place, feature in enumerate(features):
        if place % CHUNK == 0:
            lines.append(f"    if {chunk_constant(role, place)} >= 0:")
        code, variables = value(kind, feature)
        lines += ["    " + line for line in written_value(role, place, variables, code)]
    return "\n".join([*lines, "    return"])


def written_value(role: str, place: int, variables: dict[str, str], code: str) -> list[str]:
    """Returns the lines that write the value of a feature if it has a column."""
    column = column_constant(role, place)
    assigned = [f"        {name} = {read}" for name, read in variables.items()]
    return [f"    if {column} >= 0:", *assigned, f"        out[row + {column}] = {code}"]


def note_variables(kind: Kind, features: list[Feature]) -> dict[str, str]:
    """Returns the variables of a note that has the sums of these features, and the code that reads each."""
    variables: dict[str, str] = {}
    for feature in features:
        variables |= value(kind, feature)[1]
    return variables


def noting(kind: Kind, features: list[Feature]) -> list[str]:
    """Returns the functions that save and emit the notes of a role other than the caller."""
    if not all(part for feature in features for part in feature.sums):
        raise ValueError(f"{kind.roles[-1]}: its features must read sums only, as a table saves them in notes")
    note = ["def save_note(state, base, pairs, pair, notes, place):"]
    for name, code in note_variables(kind, features).items():
        note += [f"    if {note_constant(name)} >= 0:", f"        notes[place + {note_constant(name)}] = {code}"]
    spell = ["def emit_note(notes, place, out, row):", "    if notes[place] < 0:"]
    for place in range(len(features)):
        spell += ["    " + line for line in written_value(kind.roles[-1], place, {}, "nan")]
    spell += ["        return"]
    for place, feature in enumerate(features):
        code, variables = value(kind, feature)
        read = {name: f"int(notes[place + {note_constant(name)}])" for name in variables}
        spell += written_value(kind.roles[-1], place, read, code)
    return ["\n".join([*lines, "    return"]) for lines in (note, spell)]


def membership(of_number: dict[str, int], of_group: dict[str, int]) -> str:
    """Returns the function that copies a member record of a group from a number's state, as far as the two overlap."""
    lines = ["def copy_member_sums(state, base, own, at):"]
    for name in map(sum_constant, GROUP_SUMS):
        if min(of_number.get(name, windows.NONE), of_group[name]) >= 0:
            for window in range(len(windows.WINDOWS)):
                to = window * of_group["SLOTS"] + of_group[name]
                of = of_number["SUMS"] + window * of_number["SLOTS"] + of_number[name]
                lines.append(f"    own[at + {to}] = state[base + {of}]")
    return "\n".join([*lines, "    return"])


def value(kind: Kind, feature: Feature) -> tuple[str, dict[str, str]]:
    """Returns the formula of a feature with its parts inserted, and the code of each variable that it reads."""
    terms = {"window": str(windows.WINDOWS[feature.window]) + ".0"} if feature.window is not None else {}
    variables = {}
    for word, name, window_sum in zip(("part", "whole", "other"), feature.parts, feature.sums, strict=False):
        if window_sum:
            variable, code = sum_of(kind, window_sum)
        elif name in ("in_air", "hour_logs", "day", "out_days", "in_days"):
            variable, code = name, read_code(name.upper(), wide=STATE_REGIONS[name][0] == 2)
        elif name in STATE_REGIONS:
            terms[word] = f"base + {name.upper()}"
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
    return PARTS.sub(lambda match: terms[match[0]], FORMULAS[feature.how]), variables


def sum_of(kind: Kind, window_sum: tuple[str, int]) -> tuple[str, str]:
    """Returns variable and code of a sum of a window; in a group without the caller's own part."""
    name, window = window_sum
    variable = f"{name}_{windows.WINDOW_NAMES[window]}"
    code = read_code(f"SUMS + {window} * SLOTS + {sum_constant(name)}", wide=kind.sums[name].wide)
    if kind.module is group_state:
        own = f"pairs[pair + {window} * SLOTS + {sum_constant('calls' if name == 'members' else name)}]"
        code += f" - ({own} > 0)" if name == "members" else f" - {own}"
    return variable, code


def read_code(place: str, *, wide: bool) -> str:
    """Returns the code that reads an integer of one element of the state, or of two (`wide`)."""
    return f"read_wide(state, base + {place})" if wide else f"state[base + {place}]"
