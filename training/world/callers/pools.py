"""Parameters of outfits, and their numbers: lifetimes and rotation, blocks, SIM pools, trunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from callsieve.features.arrays import Int8s, Int32s, Int64s
from callsieve.features.records import ROUTES
from callsieve.training.world.basis.dialling import Dialler
from callsieve.training.world.basis.draws import choose, lognormal
from callsieve.training.world.basis.numbering import (
    AREAS,
    OPERATORS,
    TRUNK_KINDS,
    Campaign,
    attestations,
    hunt_group,
    in_blocks,
    lead_code,
    mobile_blocks,
    operators,
)
from callsieve.training.world.basis.scenario import Spread
from callsieve.training.world.basis.timing import DAY, Calendar

from .sim import Sim

ABROAD = ("foreign", "foreign_86")  # the second presents a mobile number of this country
MOBILE = ("mobile", "resale", "foreign_86")
MIN_LIFETIME = DAY // 6
MAX_CHAIN = 64
SAME_KIND_SHARE = 0.8  # chance that a new block is of the same kind as the previous one


@dataclass(frozen=True, kw_only=True)
class Outfit(Dialler):
    """Parameters of a population of outfits (firms, gangs and robots); `benign.toml` explains each."""

    nuisance: bool
    calls_per_1000: float
    most_calls: int
    least: int
    mode: str
    attack: str
    content: dict[str, float]
    agents: Spread
    run_days: Spread
    number_days: Spread
    pool: dict[str, float]
    mixed_block_share: float
    new_block_share: float
    numbers_per_device: float
    own_network_share: float
    local_share: float
    shared_trunk_share: float
    agent_sim_share: float
    silent_share: float
    lines: int
    dead: Spread
    sequential_share: float
    recording_s: Spread
    heard_share: float
    interest_share: float
    warm_up_days: float
    bots: int
    bot_calls_per_day: float
    bot_talk_s: float
    friends: int
    friend_calls_per_day: float
    inbound_per_day: float
    inbound_callback_share: float
    area: int

    def drawn_campaign(self, rng: np.random.Generator, title: str, slice_name: str) -> Campaign:
        """Returns a campaign with a content that is drawn by weight."""
        content = list(self.content)[int(choose(rng, self.content, 1)[0])]
        return Campaign(title, slice_name, content, self.mode, self.attack or None)


def lifetimes(rng: np.random.Generator, outfit: Outfit, days: Calendar) -> tuple[Int64s, Int64s]:
    """Draws begin and end of each number that is alive in the world; every agent uses one number after another.

    An outfit can start at any time, even before the world or near its end. Repeats until a number is alive.
    """
    while True:
        run = int(max(DAY / 2, DAY * lognormal(rng, outfit.run_days, 1)[0]))
        begin = int(rng.integers(days.start - run, days.end - DAY // 4))
        agents = max(1, round(lognormal(rng, outfit.agents, 1)[0]))
        length = (DAY * lognormal(rng, outfit.number_days, agents * MAX_CHAIN)).astype(np.int64)
        ends = begin + np.cumsum(np.maximum(length, MIN_LIFETIME).reshape(agents, MAX_CHAIN), axis=1)
        starts = np.column_stack((np.full(agents, begin), ends[:, :-1]))
        ends = np.minimum(ends, begin + run)
        alive = (starts < begin + run) & (ends > days.start) & (starts < days.end)
        alive &= ends - starts >= MIN_LIFETIME // 2
        if alive.any():
            return starts[alive], ends[alive]


def add_numbers(
    rng: np.random.Generator, sim: Sim, outfit: Outfit, slice_name: str, title: str, lives: tuple[Int64s, Int64s]
) -> Int32s:
    """Adds an outfit's numbers to the directory, block by block, and returns their ids.

    Args:
        title: name of the outfit's campaign, if it is a nuisance.
        lives: begin and end of each number's life.
    """
    numbers, numbering, (born, died) = sim.numbers, sim.table("numbering"), lives
    campaign = -1
    if outfit.nuisance:
        campaign = numbers.campaign(outfit.drawn_campaign(rng, title, slice_name))
    slice_code, area, count = numbers.slice(slice_name), numbering["area_code"], len(born)
    group = np.cumsum(rng.random(count) < outfit.new_block_share).astype(np.int64)
    group -= group[0]
    ours = bool(rng.random() < outfit.own_network_share)
    trunk = numbers.trunk(rng, outfit.shared_trunk_share, numbering["trunks"]["most_tenants"])
    devices = numbers.new("device", int(np.ceil(count / outfit.numbers_per_device)))
    # A device can also hold an agent's own card, so a device is no certain sign of an outfit.
    private = int(numbers["device"][rng.integers(0, sim.society.subscribers)])
    devices[0] = private if rng.random() < outfit.agent_sim_share else devices[0]
    cells = rng.integers(0, numbers.taken["cell"], 2)
    kind = ""
    ids = []
    for code in range(int(group[-1]) + 1):
        rows = np.flatnonzero(group == code)
        if not kind or rng.random() > SAME_KIND_SHARE:
            kind = list(outfit.pool)[int(choose(rng, outfit.pool, 1)[0])]
        mixed = kind == "mobile" and rng.random() < outfit.mixed_block_share
        here = mixed or rng.random() < outfit.local_share
        place = _area(rng, kind, area, here)
        digits = _digits(rng, kind, len(rows), place, sim.society.blocks if mixed else None)
        handset: dict[str, Any] = {}
        if ours and kind in {"mobile", "resale"}:
            handset = {"device": devices[rows * len(devices) // count], "home": cells[0], "work": cells[1]}
        ids.append(
            numbers.add(
                digits,
                **_of_kind(kind, outfit.lines, ours, trunk),
                **handset,
                slice=slice_code,
                campaign=campaign,
                born=born[rows],
                died=died[rows],
                operator=_operator(rng, kind, digits),
                area=place,
                attestation=attestations(rng, numbering["attestation"][_access(kind, ours)], len(rows)),
            )
        )
    added = np.concatenate(ids)
    numbers["silent"][added] = rng.random() < outfit.silent_share
    numbers["outfit"][added] = numbers.new("outfit", 1)
    return added


def _of_kind(kind: str, lines: int, ours: bool, trunk: int) -> dict[str, int]:
    """Returns the columns of a block's numbers that depend only on its kind."""
    on_trunk, abroad = kind in TRUNK_KINDS, kind in ABROAD
    return {
        "lead": lead_code(kind),
        "lines": lines if on_trunk else 1,
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
