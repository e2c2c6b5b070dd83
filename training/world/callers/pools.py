"""The numbers of an outfit: lifetimes and rotation, blocks, SIM pools, trunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from callsieve.features.arrays import Int8s, Int32s, Int64s
from callsieve.features.records import ROUTES
from callsieve.training.world.basis.draws import choose, lognormal
from callsieve.training.world.basis.numbering import (
    AREAS,
    OPERATORS,
    TRUNK_KINDS,
    Directory,
    attestations,
    hunt_group,
    in_blocks,
    lead_code,
    mobile_blocks,
    operators,
)
from callsieve.training.world.basis.scenario import Spread
from callsieve.training.world.basis.timing import DAY, Calendar

ABROAD = ("foreign", "foreign_86")  # the second presents a mobile number of this country
MOBILE = ("mobile", "resale", "foreign_86")
MIN_LIFETIME = DAY // 6
MAX_CHAIN = 64
SAME_KIND_SHARE = 0.8  # chance that a new block is of the same kind as the previous one


@dataclass(frozen=True)
class Pool:
    """How an outfit gets its numbers; `benign.toml` explains the values."""

    weights: Mapping[str, float]
    mixed_block_share: float
    new_block_share: float
    numbers_per_device: float
    own_network_share: float
    lines: int
    local_share: float
    shared_trunk_share: float
    agent_sim_share: float


def lifetimes(
    rng: np.random.Generator, days: Calendar, begin: int, finish: int, agents: int, number_days: Spread
) -> tuple[Int64s, Int64s]:
    """Draws begin and end of each number that is alive in the world; every agent uses one number after another."""
    length = (DAY * lognormal(rng, number_days, agents * MAX_CHAIN)).astype(np.int64)
    ends = begin + np.cumsum(np.maximum(length, MIN_LIFETIME).reshape(agents, MAX_CHAIN), axis=1)
    starts = np.column_stack((np.full(agents, begin), ends[:, :-1]))
    ends = np.minimum(ends, finish)
    alive = (starts < finish) & (ends > days.start) & (starts < days.end) & (ends - starts >= MIN_LIFETIME // 2)
    return starts[alive], ends[alive]


def add_numbers(
    rng: np.random.Generator,
    pool: Pool,
    attestation: Mapping[str, dict[str, float]],
    area: int,
    subscriber_blocks: Int64s,
    subscribers: int,
    most_tenants: int,
    born: Int64s,
    died: Int64s,
    numbers: Directory,
    slice_code: int,
    campaign: int,
) -> Int32s:
    """Adds an outfit's numbers to the directory, block by block, and returns their ids."""
    count = len(born)
    group = np.cumsum(rng.random(count) < pool.new_block_share).astype(np.int64)
    group -= group[0]
    ours = bool(rng.random() < pool.own_network_share)
    trunk = numbers.trunk(rng, pool.shared_trunk_share, most_tenants)
    devices = numbers.new("device", int(np.ceil(count / pool.numbers_per_device)))
    # A device can also hold an agent's own card, so a device is no certain sign of an outfit.
    private = int(numbers["device"][rng.integers(0, subscribers)])
    devices[0] = private if rng.random() < pool.agent_sim_share else devices[0]
    cells = rng.integers(0, numbers.taken["cell"], 2)
    kind = ""
    ids = []
    for code in range(int(group[-1]) + 1):
        rows = np.flatnonzero(group == code)
        if not kind or rng.random() > SAME_KIND_SHARE:
            kind = list(pool.weights)[int(choose(rng, pool.weights, 1)[0])]
        mixed = kind == "mobile" and rng.random() < pool.mixed_block_share
        here = mixed or rng.random() < pool.local_share
        place = _area(rng, kind, area, here)
        digits = _digits(rng, kind, len(rows), place, subscriber_blocks if mixed else None)
        handset: dict[str, Any] = {}
        if ours and kind in {"mobile", "resale"}:
            handset = {"device": devices[rows * len(devices) // count], "home": cells[0], "work": cells[1]}
        ids.append(
            numbers.add(
                digits,
                **_of_kind(kind, pool, ours, trunk),
                **handset,
                slice=slice_code,
                campaign=campaign,
                born=born[rows],
                died=died[rows],
                operator=_operator(rng, kind, digits),
                area=place,
                attestation=attestations(rng, attestation[_access(kind, ours)], len(rows)),
            )
        )
    return np.concatenate(ids)


def _of_kind(kind: str, pool: Pool, ours: bool, trunk: int) -> dict[str, int]:
    """Returns the columns of a block's numbers that depend only on its kind."""
    on_trunk, abroad = kind in TRUNK_KINDS, kind in ABROAD
    return {
        "lead": lead_code(kind),
        "lines": pool.lines if on_trunk else 1,
        "trunk": trunk if on_trunk else -1,
        "ours": ours and not abroad,
        "route": ROUTES.index("international" if abroad else "domestic"),
    }


def _digits(rng: np.random.Generator, kind: str, count: int, area: int, subscriber_blocks: Int64s | None) -> Int64s:
    """Draws neighbouring numbers; mobile numbers share one block, which is one of subscribers if these are passed."""
    if kind not in MOBILE:
        return hunt_group(rng, kind, count, area)
    if subscriber_blocks is not None:
        return in_blocks(rng, rng.choice(subscriber_blocks, 1), count)
    return in_blocks(rng, mobile_blocks(rng, 1, "resale" if kind == "resale" else "mobile"), count)


def _area(rng: np.random.Generator, kind: str, here: int, local: bool) -> int:
    """Draws the area of a block of numbers; 95 and 400 numbers have none (0)."""
    if kind not in (*MOBILE, "fixed"):
        return 0
    return here if local else int(rng.choice([area for area in AREAS if area != here]))


def _access(kind: str, ours: bool) -> str:
    if kind in ABROAD:
        return "foreign"
    if kind in TRUNK_KINDS:
        return "trunk"
    return "own_network" if ours else "other_network"


def _operator(rng: np.random.Generator, kind: str, digits: Int64s) -> Int8s:
    if kind in MOBILE:
        return operators(digits)
    code = OPERATORS.index("foreign") if kind == "foreign" else int(rng.integers(0, 3))
    return np.full(len(digits), code, dtype=np.int8)
