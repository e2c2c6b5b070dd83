"""The simulator: labelled calls of an invented city, with a known truth.

Imports `features` only. Start with `world`.
"""

from .basis.scenario import Scenario, load_scenario
from .store import keyed_world, read_world, write_world
from .world import World, simulate

__all__ = ["Scenario", "World", "keyed_world", "load_scenario", "read_world", "simulate", "write_world"]
