"""A small network of one simulated world, its true callers, and a weak base to adapt."""

from dataclasses import replace

import numpy as np
import pandas as pd

from callsieve.features import Intake, Key
from callsieve.serving.bundle.metadata import Calibration
from callsieve.training import of_world
from callsieve.training.world import keyed_world, simulate
from tests.support import real_bundle
from tests.support.calls.worlds import scenario_of

# Chosen by looking: with this world and this base, own trees gain if all callers are checked.
SEED, SCENARIO = 3, "[sizes.tiny]\nsubscribers = 500\ndays = 14\n"


def make_world():
    """Returns the keyed world."""
    return keyed_world(simulate(scenario_of(SCENARIO), SEED, "tiny"), Intake(Key("e1", b"k" * 32)))


def unchecked(world):
    """Returns its calls, without complaints, checks and truth."""
    dataset = of_world(world)
    return replace(dataset, findings=dataset.findings[:0], complaints=dataset.complaints[:0], truth=None)


def true_callers(world):
    """Returns whether most calls of each caller are nuisance, by token."""
    return (
        world.truth.to_pandas()["nuisance"].astype(float).groupby(world.calls["caller"].to_pandas().astype(str)).mean()
        > 0.5
    )


def write_base(folder):
    """Writes a signed bundle whose ranking is poor, and which finds a raw score of 0 as likely nuisance as innocent."""
    return real_bundle.write_signed(folder, calibration=Calibration((-20.0, 0.0, 20.0), (0.0, 0.5, 1.0)))


def findings_of(dataset, nuisance):
    """Returns checks at the end of the calls, from a series of answers by token."""
    end = pd.Timestamp(int(dataset.calls["start"].to_numpy().max()), unit="ms", tz="UTC")
    frame = pd.DataFrame({"number": nuisance.index, "nuisance": nuisance.to_numpy(), "known_at": end})
    return frame.astype(dataset.findings.dtypes)


def guesses(nuisance, seed=0):
    """Returns answers that have nothing to do with the truth."""
    return pd.Series(np.random.default_rng(seed).random(len(nuisance)) < 0.5, nuisance.index)
