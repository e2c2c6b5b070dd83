"""Learning from many worlds: what is judged, folder by folder, and that anyone gets the same model."""

import json

import numpy as np
import pytest

from callsieve.features.files.progress import silent
from callsieve.features.online.feeds import OUTGOING_ONLY
from callsieve.training.model import pool
from callsieve.training.model.settings import Settings
from callsieve.training.studies import worlds
from callsieve.training.studies.worlds import JUDGED, LEARN_SEED, Worlds, study_worlds
from callsieve.training.world import load_scenario
from callsieve.training.world.basis.variation import vary
from tests.support.lite_bundle import LITE
from tests.support.trainings import short_trainings

pytestmark = pytest.mark.system

FEW = (Worlds("default", 31, 2), Worlds("varied", 33, 1, varied=True))  # of a tiny size, one world each
QUICK = Settings(
    seed=1,
    threads=2,
    learn_from="truth",
    valid_from="2026-11-28",
    valid_days=10,
    parameters={"rounds": 5},
    features=LITE,
)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Folder and figures of a study."""
    folder = tmp_path_factory.mktemp("worlds")
    with pytest.MonkeyPatch.context() as patched:
        short_trainings.shorten(patched)
        patched.setattr(worlds, "JUDGED", FEW)
        patched.setattr(pool, "POORER_FEEDS", (OUTGOING_ONLY,))  # the others are tested with trainings of their own
        return folder, study_worlds(folder, QUICK, size="tiny", learnt=2, progress=silent)


def test_the_worlds_are_the_same_wherever_they_are_made(judged, tmp_path, monkeypatch):
    sources = []
    monkeypatch.setattr(worlds, "JUDGED", FEW)
    monkeypatch.setattr(worlds, "record_training", lambda listed, *_, **__: sources.extend(listed))
    study_worlds(tmp_path, QUICK, size="tiny", learnt=2, progress=silent)
    assert [source.role for source in sources] == ["learn", "learn", "certify", "certify"]
    for source in sources:
        for table in ("calls.parquet", "truth.parquet", "complaints.parquet"):
            assert (tmp_path / source.name / table).read_bytes() == (judged[0] / source.name / table).read_bytes()


def test_the_worlds_learnt_from_vary_the_default_mix_of_trades(judged):
    for seed in (LEARN_SEED, LEARN_SEED + 1):
        facts = json.loads((judged[0] / f"learn/world-{seed}/world.json").read_text())
        assert facts["scenario"] == vary(load_scenario(), seed).fingerprint and facts["drawn"]["values"]


def test_a_bundle_of_simulated_worlds_is_valid_from_the_day_that_is_asked_for(judged):
    metadata = json.loads((judged[0] / "run/bundle/bundle.json").read_text())
    assert (metadata["valid_from"], metadata["valid_until"]) == ("2026-11-28T00:00:00Z", "2026-12-08T00:00:00Z")


def test_each_judging_world_has_its_figures_and_they_add_up(judged):
    _, figures = judged
    by_folder = figures["by_folder"]
    assert [row["folder"] for row in by_folder] == ["judge/default/world-31", "judge/varied/world-33"]
    whole = {"model": figures["headline"]["model"], **figures["baselines"], "rule": figures["headline"]["rule"]}
    for name, head in whole.items():
        parts = [row["model"] if name == "model" else row["baselines"][name] for row in by_folder]
        for count in ("benign_calls", "false_calls"):
            assert sum(part[count] for part in parts) == head[count]
        assert sum(part["detection"]["callers"] for part in parts) == head["detection"]["callers"]
    catches = [row["model"]["catch"]["call"]["rate"] for row in by_folder]
    assert min(catches) <= whole["model"]["catch"]["call"]["rate"] <= max(catches)
    policy = [row["policy"]["false_calls"] for row in by_folder]
    assert sum(policy) == figures["headline"]["policy"]["false_calls"]
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_a_run_is_never_overwritten(judged):
    with pytest.raises(ValueError, match="exists already; remove it"):
        study_worlds(judged[0], QUICK, size="tiny", learnt=2, progress=silent)


def test_no_world_is_both_learnt_from_and_judged():
    learnt = set(range(LEARN_SEED, LEARN_SEED + 900))  # the most that the command takes
    judged = [seed for kind in JUDGED for seed in range(kind.seed, kind.seed + kind.count)]
    assert len(set(judged)) == len(judged) >= 12 and min(judged) >= 1001 and not learnt & set(judged)
    assert np.unique([kind.name for kind in JUDGED]).size == len(JUDGED)
