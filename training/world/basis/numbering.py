"""The directory of a world's numbers, and invented numbers in the form of the Chinese number plan.

Mobile prefixes: MIIT list to 2023-03. Virtual operators have 162, 165, 167, 170 and 171. 953, 955 and 956 are
service numbers of large firms; 950, 951 and 952 belong to call centres. Every number here is invented.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.arrays import Array, Int8s, Int32s, Int64s
from callsieve.features.records import ATTESTATIONS, ROUTES

from .draws import choose

OPERATORS = ("mobile", "unicom", "telecom", "broadcast", "resale", "foreign")
PREFIXES = {
    "mobile": (134, 135, 136, 137, 138, 139, 147, 150, 151, 152, 157, 158, 159, 178, 182, 183, 184, 187, 188, 195, 198),
    "unicom": (130, 131, 132, 145, 155, 156, 166, 175, 176, 185, 186, 196),
    "telecom": (133, 153, 173, 177, 180, 181, 189, 190, 191, 193, 199),
    "broadcast": (192,),
}
RESALE = (162, 165, 167, 170, 171)
# Country code with the start of a number, and the count of digits that follow.
COUNTRIES = (
    (1_212_5, 6),
    (1_876_3, 6),
    (44_20_7, 7),
    (60_12, 7),
    (62_812, 8),
    (84_91, 7),
    (216_22, 6),
    (234_803, 7),
    (855_12, 6),
)
AREAS = (10, 20, 21, 22, 23, 24, 25, 27, 28, 29)  # two-digit area codes, local numbers of eight digits
MOBILE_BLOCK = 10_000
# Prefix of the digits as written: none, of an area code, of another country.
LEADS = ("", "0", "00")
NEVER = np.iinfo(np.int64).max
TRUNK_KINDS = ("fixed", "service_95", "service_12", "call_centre", "number_400")

COLUMNS: dict[str, tuple[Any, Any]] = {
    "digits": (np.int64, 0),
    "lead": (np.int8, 0),
    "slice": (np.int16, 0),
    "campaign": (np.int32, -1),
    "outfit": (np.int32, -1),  # the firm, gang or office that uses the number
    "lines": (np.int16, 1),
    "voicemail": (np.bool_, False),  # calls that its owner does not answer go to voicemail
    "silent": (np.bool_, False),  # switched on only to dial out: it receives no call
    "ours": (np.bool_, False),  # of this network, which sees its device, its cell and all its calls
    "born": (np.int64, 0),
    "died": (np.int64, NEVER),
    "lent_from": (np.int64, NEVER),  # from then on, its owner lends it to a gang
    "away_from": (np.int64, NEVER),  # abroad, until `away_to`
    "away_to": (np.int64, NEVER),
    "trunk": (np.int32, -1),
    "operator": (np.int8, -1),
    "device": (np.int32, -1),
    "home": (np.int32, -1),
    "work": (np.int32, -1),
    "area": (np.int16, 0),  # area of the number; 0: none
    "attestation": (np.int8, ATTESTATIONS.index("unknown")),
    "route": (np.int8, ROUTES.index("domestic")),
}


@dataclass(frozen=True)
class Campaign:
    """A nuisance campaign; `attack` names its evasion trick, if any."""

    name: str
    slice: str
    content: str
    mode: str
    attack: str | None = None


@dataclass
class Directory:
    """All numbers of a world, one array a column; the id of a number is its position."""

    slices: list[str] = field(default_factory=lambda: ["unallocated"])
    campaigns: list[Campaign] = field(default_factory=list)
    taken: dict[str, int] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    tenants: dict[int, int] = field(default_factory=dict)  # count, by shared trunk
    count: int = 0
    room: dict[str, Array] = field(
        default_factory=lambda: {name: np.full(1024, default, kind) for name, (kind, default) in COLUMNS.items()}
    )

    def __getitem__(self, column: str) -> Array:
        return self.room[column][: self.count]

    def __len__(self) -> int:
        return self.count

    def slice(self, name: str) -> int:
        """Returns the code of a slice, which is added if it is new."""
        if name not in self.slices:
            self.slices.append(name)
        return self.slices.index(name)

    def campaign(self, campaign: Campaign) -> int:
        """Adds a campaign and returns its code."""
        self.campaigns.append(campaign)
        return len(self.campaigns) - 1

    def new(self, thing: str, count: int) -> Int32s:
        """Returns `count` unused codes of a thing (trunk, device, cell, outfit)."""
        first = self.taken.get(thing, 0)
        self.taken[thing] = first + count
        return np.arange(first, first + count, dtype=np.int32)

    def trunk(self, rng: np.random.Generator, shared_share: float, most_tenants: int) -> int:
        """Returns a new trunk, or, with a chance, a trunk shared with other tenants, benign or nuisance."""
        shared, joins, which = rng.random(3)
        free = [code for code, tenants in self.tenants.items() if tenants < most_tenants]
        if shared < shared_share and free and joins > 1 / most_tenants:
            code = free[int(which * len(free))]
        else:
            code = int(self.new("trunk", 1)[0])
        if shared < shared_share:
            self.tenants[code] = self.tenants.get(code, 0) + 1
        return code

    def add(self, digits: Int64s, **columns: Any) -> Int32s:
        """Adds numbers and returns their ids; digits in use are replaced by the next free ones."""
        first, self.count = self.count, self.count + len(digits)
        while self.count > len(self.room["digits"]):
            self._grow()
        for name, value in columns.items():
            self.room[name][first : self.count] = value
        self.room["digits"][first : self.count] = self._free(digits)
        return np.arange(first, self.count, dtype=np.int32)

    def _grow(self) -> None:
        for name, (kind, default) in COLUMNS.items():
            self.room[name] = np.concatenate((self.room[name], np.full(len(self.room[name]), default, kind)))

    def _free(self, digits: Int64s) -> list[int]:
        free = []
        for wanted in digits.tolist():
            number = wanted
            while number in self.used:
                number += 1
            self.used.add(number)
            free.append(number)
        return free

    def strings(self) -> pa.Array:
        """Returns every number as written."""
        digits = pa.array(self["digits"]).cast(pa.string())
        leads = pa.array(LEADS).take(pa.array(self["lead"]))
        return pc.binary_join_element_wise(leads, digits, "")


def mobile_blocks(rng: np.random.Generator, count: int, kind: str = "mobile") -> Int64s:
    """Draws seven-digit blocks of 10,000 mobile numbers, of any operator or of virtual operators (`resale`)."""
    prefixes = np.array(RESALE if kind == "resale" else [code for codes in PREFIXES.values() for code in codes])
    # Blocks never start with a 9 after the prefix: 1349 belongs to satellite phones.
    return prefixes[rng.integers(0, len(prefixes), count)] * 10_000 + rng.integers(0, 9_000, count)


def in_blocks(rng: np.random.Generator, blocks: Int64s, count: int) -> Int64s:
    """Draws mobile numbers of these blocks."""
    return blocks[rng.integers(0, len(blocks), count)] * MOBILE_BLOCK + rng.integers(0, MOBILE_BLOCK, count)


def hunt_group(rng: np.random.Generator, kind: str, count: int, area: int) -> Int64s:
    """Draws neighbouring numbers of one office: fixed, 95, 400 or foreign numbers."""
    base = {
        "fixed": area * 10**8 + int(rng.integers(20_000_000, 89_999_000)),
        "service_95": int(rng.choice((953, 955, 956))) * 100 + int(rng.integers(0, 99)),
        "service_12": 12_000 + int(rng.integers(300, 399)),
        "call_centre": int(rng.choice((950, 951, 952))) * 100_000 + int(rng.integers(0, 99_000)),
        "number_400": 400 * 10**7 + int(rng.integers(0, 9_990_000)),
        "foreign": int(_foreign(rng, 1)[0]),
    }[kind]
    step = 1 if kind in {"service_95", "service_12"} else int(rng.integers(1, 9))
    return base + step * np.arange(count)


def scattered(rng: np.random.Generator, kind: str, count: int, area: int) -> Int64s:
    """Draws unrelated fixed or foreign numbers of people."""
    if kind == "foreign":
        return _foreign(rng, count)
    areas = np.where(rng.random(count) < 0.6, area, rng.choice(AREAS, count))
    return areas * 10**8 + rng.integers(20_000_000, 89_999_999, count)


def _foreign(rng: np.random.Generator, count: int) -> Int64s:
    start, digits = np.array(COUNTRIES)[rng.integers(0, len(COUNTRIES), count)].T
    power = 10**digits
    # Not at the end of a range: a hunt group continues from here.
    numbers: Int64s = start * power + (rng.random(count) * 0.98 * power).astype(np.int64)
    return numbers


def lead_code(kind: str) -> int:
    """Returns the index in LEADS of the prefix of a kind of number."""
    return LEADS.index({"fixed": "0", "foreign": "00"}.get(kind, ""))


def operators(digits: Int64s) -> Int8s:
    """Returns the range holder of each mobile number, which is its operator unless the number was ported."""
    of_prefix = np.full(1000, OPERATORS.index("telecom"), dtype=np.int8)
    for name, codes in PREFIXES.items():
        of_prefix[list(codes)] = OPERATORS.index(name)
    of_prefix[list(RESALE)] = OPERATORS.index("resale")
    return of_prefix[digits // 10**8 % 1000]


def attestations(rng: np.random.Generator, weights: dict[str, float], count: int) -> Int8s:
    """Draws authentication results by weight."""
    codes = np.array([ATTESTATIONS.index(name) for name in weights], dtype=np.int8)
    return codes[choose(rng, weights, count)]
