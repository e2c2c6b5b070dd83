"""Bundles are replaced under load: no call is lost, older epochs are refused, and a refusal changes nothing."""

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from callsieve.features.online.history import History
from callsieve.serving import BundleError, Policy, Swap
from callsieve.serving.scorer import scorer as scorer_module
from tests.support import real_bundle
from tests.support import small_bundle as small
from tests.support.errors import raising

EPOCHS = (5, 6, 7)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """A folder with one bundle of each epoch and a broken bundle."""
    place = tmp_path_factory.mktemp("bundles")
    for epoch in EPOCHS:
        real_bundle.write_bundle(place / str(epoch), epoch=epoch)
    real_bundle.write_bundle(place / "broken", epoch=9)
    text = (place / "broken" / "model.txt").read_bytes()
    (place / "broken" / "model.txt").write_bytes(text.replace(b"leaf_value=", b"leaf_valuf=", 1))
    return place


@pytest.fixture(scope="module")
def calls():
    return real_bundle.key_calls(real_bundle.calls())[:60]


@pytest.fixture
def swap():
    return Swap(trusted=small.TRUSTED)


def test_before_the_first_bundle_every_call_passes(swap, calls):
    assert not swap.ready
    for verdict in (swap.score(History(), calls[0]), swap.explain(History(), None)):
        assert (verdict.action, verdict.status) == ("pass", "no_model")
        assert math.isnan(verdict.score)
        assert verdict.reasons == ()


def test_a_valid_bundle_is_put_in_service(swap, bundles, calls):
    scorer = swap.load(bundles / "5")
    assert swap.ready
    assert swap.scorer is scorer
    assert swap.refusal is None
    assert repr(swap.score(History(), calls[0])) == repr(scorer.score(History(), calls[0]))
    assert repr(swap.explain(History(), calls[0])) == repr(scorer.explain(History(), calls[0]))


def test_swaps_share_the_memory_of_a_bundle_and_no_scores(bundles, calls):
    shared = {}
    first, second = (Swap(trusted=small.TRUSTED, bundles=shared) for _ in range(2))
    for name in ("5", "6"):
        scorers = [swap.load(bundles / name) for swap in (first, second)]
        assert scorers[0].bundle is scorers[1].bundle and list(shared.values()) == [scorers[0].bundle]
        assert scorers[0].networks is not scorers[1].networks
        assert repr(scorers[1].score(History(), calls[0])) == repr(scorers[0].score(History(), calls[0]))


def test_a_refused_bundle_leaves_the_last_good_bundle(swap, bundles):
    good = swap.load(bundles / "6")
    for folder, rule in (("broken", "SHA-256"), ("nowhere", "missing"), ("5", "epoch must be at least 6, got 5")):
        with pytest.raises(BundleError, match=rule):
            swap.load(bundles / folder)
        assert swap.scorer is good
        assert swap.ready
        assert rule in swap.refusal
    assert swap.load(bundles / "7").bundle.epoch == 7
    assert swap.refusal is None


def test_a_bundle_with_other_golden_scores_is_refused(swap, bundles, monkeypatch):
    monkeypatch.setattr(
        "callsieve.serving.bundle.bundle._check_golden", raising(ValueError("golden vector 0 must give 1, got 2 and 2"))
    )
    with pytest.raises(BundleError, match=r"model\.forest: golden vector 0"):
        swap.load(bundles / "5")
    assert not swap.ready


def test_a_bundle_of_the_same_epoch_is_accepted(swap, bundles):
    swap.load(bundles / "6")
    assert swap.load(bundles / "6").bundle.epoch == 6
    assert swap.epoch == 6


@pytest.mark.parametrize(
    ("options", "folder", "rule"),
    [
        ({"minimum_epoch": 6}, "5", "epoch must be at least 6, got 5"),
        ({}, "broken", "SHA-256"),
        ({"policy": Policy("other", {"unheard": "label"})}, "5", "the bundle has no band unheard"),
    ],
)
def test_a_refused_first_bundle_leaves_no_model_and_writes_no_epoch(bundles, tmp_path, options, folder, rule):
    swap = Swap(trusted=small.TRUSTED, epoch_file=tmp_path / "epoch", **options)
    epoch = swap.epoch
    with pytest.raises(ValueError, match=rule):
        swap.load(bundles / folder)
    assert rule in swap.refusal and not swap.ready
    assert not (tmp_path / "epoch").exists() and swap.epoch == epoch


def test_an_older_epoch_is_refused_after_a_restart(bundles, tmp_path):
    def restarted():
        return Swap(trusted=small.TRUSTED, epoch_file=tmp_path / "epoch")

    assert restarted().load(bundles / "5").bundle.epoch == 5
    restarted().load(bundles / "7")
    assert (tmp_path / "epoch").read_text() == "7\n"
    assert restarted().epoch == 7
    with pytest.raises(BundleError, match="epoch must be at least 7, got 6"):
        restarted().load(bundles / "6")
    assert [path.name for path in tmp_path.iterdir()] == ["epoch"]


def test_a_full_disk_leaves_the_last_good_bundle(bundles, tmp_path, monkeypatch):
    swap = Swap(trusted=small.TRUSTED, epoch_file=tmp_path / "epoch")
    good = swap.load(bundles / "5")
    monkeypatch.setattr(os, "fsync", raising(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        swap.load(bundles / "6")
    assert swap.scorer is good
    assert "No space left" in swap.refusal
    assert (tmp_path / "epoch").read_text() == "5\n"
    assert swap.load(bundles / "5").bundle.epoch == 5  # nothing to write


@pytest.mark.parametrize("text", ["", "seven", "-1", "1.5", "٣x", "\x00"])
def test_an_invalid_epoch_file_is_refused(tmp_path, text):
    (tmp_path / "epoch").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="must hold an epoch, a whole number of 0 or more"):
        Swap(trusted=small.TRUSTED, epoch_file=tmp_path / "epoch")


@pytest.mark.system
def test_no_call_is_lost_while_bundles_change(swap, bundles, calls):
    """Threads score without a pause while bundles are replaced. Every verdict comes from one complete model."""
    expected = {}
    for epoch in EPOCHS:
        scorer = scorer_module.Scorer.load(bundles / str(epoch), trusted=small.TRUSTED)
        expected[scorer.bundle.model_id] = [repr(scorer.explain(History(), call)) for call in calls]
    swap.load(bundles / str(EPOCHS[0]))
    done = threading.Event()

    def score_calls():
        verdicts = []
        while not done.is_set() or len(verdicts) < len(calls):
            i = len(verdicts) % len(calls)
            verdicts.append((i, swap.explain(History(), calls[i])))
        return verdicts

    with ThreadPoolExecutor(3) as pool:
        tasks = [pool.submit(score_calls) for _ in range(3)]
        for epoch in (6, 6, 7, 7, 7):
            swap.load(bundles / str(epoch))
        done.set()
        verdicts = [verdict for task in tasks for verdict in task.result()]
    for i, verdict in verdicts:
        assert repr(verdict) == expected[verdict.model][i]
    assert len({verdict.model for _, verdict in verdicts}) > 1
