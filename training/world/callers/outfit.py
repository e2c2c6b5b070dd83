"""Parameters of outfits (firms, gangs and robots), and the world that they act in."""

from __future__ import annotations

from dataclasses import dataclass

from callsieve.features.arrays import Int32s, Int64s
from callsieve.training.world.basis.numbering import Directory
from callsieve.training.world.basis.scenario import Manner, Scenario, Spread
from callsieve.training.world.basis.timing import Calendar

from .people import Society


@dataclass(frozen=True)
class Outfit:
    """Parameters of a population of outfits; `benign.toml` explains each."""

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
    rate: Spread
    rate_day_sigma: float
    pace_sigma: float
    hours: list[float]
    attend_share: float
    weekend_share: float
    after_shock_share: float
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
    outside_share: float
    dead: Spread
    sequential_share: float
    again_share: float
    callback_share: float
    callback_answer_share: float
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
    manner: Manner


@dataclass(frozen=True)
class WorldContext:
    """The world as outfits see it; `lists` are dialling lists, `relays` are the ids of relay numbers."""

    scenario: Scenario
    society: Society
    days: Calendar
    numbers: Directory
    lists: list[Int64s]
    relays: Int32s
