"""Redress: a wrongly labelled courier appeals, is cleared, and is excluded from every later training."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from msgspec import structs

from callsieve.features import Call, History, Intake, Key
from callsieve.features.intake.text_columns import factorize
from callsieve.serving import ClearedCallers, Fact, Policy, Scorer, Verdict, WatchedClearedCallers, read_public_key
from callsieve.serving.bundle.bundle import load
from callsieve.serving.bundle.metadata import BundleMetadata
from callsieve.serving.cases.feed import import_verdicts, publish_cleared
from callsieve.serving.cases.store import CaseStore
from callsieve.serving.live.cleared_callers import FILE, generation_of, read_cleared, write_cleared
from callsieve.serving.live.live import Live
from callsieve.serving.rules.rules import BEHAVIOUR, NETWORK, RULE_BY_NAME
from callsieve.training.data.dataset import FINDINGS, read_dataset
from callsieve.training.data.exclusions import add_rows, labels_to_learn
from callsieve.training.data.exclusions import write_cleared as write_exclusions
from callsieve.training.data.label_policy import read_label_policy
from callsieve.training.data.labels import label_numbers
from callsieve.training.model.folds import assign_folds, training_labels, training_rows
from callsieve.training.model.matrix import labelled_rows
from callsieve.training.model.settings import Settings
from callsieve.training.model.trees import save_bundle
from tests.support import live_states, real_bundle
from tests.support import small_bundle as small
from tests.support.errors import raising
from tests.support.live_states import attempt_of
from tests.support.waiting import wait_until

CALLS = 60  # the last calls of the courier
DAY = 86_400_000


@pytest.fixture(scope="module")
def courier(world, written_world):
    """A courier's last calls as written, in order of start, and its token."""
    slices = pc.index_in(written_world.calls["call"], value_set=written_world.truth["call"].combine_chunks())
    rows = np.flatnonzero(pc.equal(written_world.truth["slice"].take(slices), "courier").to_numpy())
    token = world.calls["caller"][int(rows[0])].as_py()
    callers = world.calls["caller"].take(rows).cast(pa.string())
    calls = written_world.calls.take(rows).filter(pc.equal(callers, token))
    last = calls.sort_by("start").slice(max(0, calls.num_rows - CALLS)).to_pylist()
    names = [name for name in Call.__slots__ if name in written_world.calls.column_names]
    values = [{name: row[name] for name in names} for row in last]
    return token, [Call(**row | {"start": row["start"].timestamp(), "recorded": None}) for row in values]


@pytest.fixture(scope="module")
def labelling_bundle(training_run, courier, tmp_path_factory):
    """The run's model with a threshold so low that it labels the courier."""
    bundle = load(training_run[0] / "bundle", [read_public_key(training_run[0] / "signer.pub")])
    scorer = Scorer(bundle, Policy("none", {}, history_days=0))
    history, intake, raw = History(), Intake(Key("e1", b"k" * 32)), []
    for call in courier[1]:
        raw.append(scorer.score(history, intake(attempt_of(call))).raw)
        history.observe(intake(call))
    card = BundleMetadata(**{name: getattr(bundle, name) for name in BundleMetadata.__struct_fields__})
    low = structs.replace(bundle.thresholds[0], threshold=min(raw[-10:]) - 1e-9)
    texts = {name: (training_run[0] / "bundle" / f"{name}.txt").read_text() for name in ("model", *bundle.classes)}
    folder = tmp_path_factory.mktemp("wrong") / "bundle"
    save_bundle(structs.replace(card, thresholds=(low,)), texts, bundle.golden.rows, folder, small.KEY)
    return folder


@pytest.mark.source("P14", by="serving/live/cleared_callers.py")
def test_an_overturned_verdict_clears_and_excludes_the_caller(labelling_bundle, courier, world_folder, tmp_path):
    token, calls = courier
    store, state = CaseStore(f"sqlite:///{tmp_path}/cases.db"), tmp_path / "state"
    cleared = WatchedClearedCallers(state / FILE)
    judge = live_states.loaded(
        labelling_bundle, policy=Policy("1", {"certified": "label"}, history_days=0), cleared=cleared
    )
    live = Live(judge, Intake(Key("e1", b"k" * 32)), state, deadline=60.0)
    verdicts = []
    for call in calls[:-1]:
        verdicts.append(live.attempt(attempt_of(call)))
        live.end(call)
    label = verdicts[-1]
    assert label.action == "label"
    live.verdicts.flush()
    import_verdicts(store, state)
    # In the time of the world, one hour after the call.
    now = round(calls[-2].start * 1000) + 3_600_000
    store.appeal(label.case, "delivery", "I bring parcels", now)
    store.decide(label.case, "overturned", "reviewer-1", "he brings parcels", now + 1)
    assert publish_cleared(store, state, now + 2)
    keyed_call = Intake(Key("e1", b"k" * 32))(calls[-1])
    wait_until(lambda: cleared.spare(label, keyed_call, "pass").action == "pass")
    passed = live.attempt(attempt_of(calls[-1]))
    assert (passed.action, passed.status) == ("pass", "cleared")
    assert passed.raw >= passed.threshold  # the model still flags the call
    live.close()
    cleared.close()

    # A wrong finding says that the courier is a nuisance caller.
    pq.write_table(pq.read_table(world_folder / "findings.parquet"), tmp_path / "findings.parquet")
    wrong_finding = {"number": token, "nuisance": True, "known_at": pd.Timestamp(now - DAY, unit="ms", tz="UTC")}
    assert add_rows(tmp_path / "findings.parquet", FINDINGS, [wrong_finding]) == 1
    assert write_exclusions(store.clearances(), tmp_path) == {"excluded": 1, "findings": 1}
    assert write_exclusions(store.clearances(), tmp_path) == {"excluded": 0, "findings": 0}
    store.close()
    for name in ("calls.parquet", "complaints.parquet", "truth.parquet", "world.json"):
        (tmp_path / name).symlink_to(world_folder / name)
    again = read_dataset(tmp_path)
    before, after = (pd.Timestamp(now + moment, unit="ms", tz="UTC") for moment in (0, 1))
    policy = read_label_policy()
    # Before the decision is known, labels do not change and training uses the courier's calls.
    labels = labels_to_learn(again, before, policy)
    pd.testing.assert_frame_equal(labels, label_numbers(again, before, policy))
    assert token in learnt(again, labels, before)
    for cutoff in (after, after + pd.Timedelta(days=400)):
        labels = labels_to_learn(again, cutoff, policy)
        assert token not in set(labels["number"]) | learnt(again, labels, cutoff)
        judged = label_numbers(again, cutoff, policy).set_index("number")  # the label that evaluation uses
        assert (bool(judged.loc[token, "nuisance"]), judged.loc[token, "source"]) == (False, "finding")


def learnt(dataset, labels, cutoff):
    """Returns the callers of the calls that a training as of `cutoff` uses."""
    calls = dataset.calls
    caller, _ = factorize(calls["caller"])
    rows = np.flatnonzero(calls["start"].to_numpy() < cutoff.timestamp() * 1000)
    sample, _ = labelled_rows(calls, caller, rows, labels, cutoff=cutoff, calls_per_number=5, seed=1)
    names = np.array(calls["caller"].cast(pa.string()).to_pylist())
    first = {code: names[place] for place, code in reversed(list(enumerate(caller.tolist())))}
    return {first[code] for code in np.unique(caller[sample]).tolist()}


def test_training_excludes_cleared_callers(dataset):
    """Checks the callers of the rows that `train` grows its trees on."""
    calls, setting = dataset.calls, Settings()
    folds = assign_folds(dataset, setting)
    caller, every = folds.caller, np.arange(calls.num_rows)

    def side(excluded):
        labels = training_labels(replace(dataset, exclusions=excluded), setting, folds.plan)
        return caller[training_rows(dataset, labels, setting, every, folds)[0]]

    before = side(dataset.exclusions)
    most = np.bincount(before).argmax()
    token = calls["caller"][int(np.flatnonzero(caller == most)[0])].as_py()
    cutoff = pd.Timestamp(folds.plan.label_cutoff, unit="ms", tz="UTC")
    row = {"number": [token], "known_at": [cutoff], "why": ["cleared"]}
    assert side(pd.DataFrame(row)).tolist() == before[before != most].tolist()
    row["known_at"] = [cutoff + pd.Timedelta(milliseconds=1)]
    assert side(pd.DataFrame(row)).tolist() == before.tolist()


def test_an_invalid_file_of_cleared_callers_changes_nothing(tmp_path):
    path = tmp_path / FILE
    write_cleared(path, {"e1.a": 2_000_000_000_000}, 1)
    cleared = WatchedClearedCallers(path, every=60.0)
    verdict = small_verdict()
    call = keyed("e1.a")
    assert cleared.spare(verdict, call, "pass").action == "pass"
    whole = path.read_bytes()
    for data in (b"", whole[:-20], whole.replace(b'"callers": 1', b'"callers": 2'), b"{}\n", b"[]\n", b"\xff\n"):
        path.write_bytes(data)
        faults = cleared.faults
        cleared.look()
        assert (cleared.faults, cleared.spare(verdict, call, "pass").action) == (faults + 1, "pass")
    path.write_bytes(whole.replace(b"e1.a", b"e1.b"))
    path.chmod(0o660)  # other users may have written it
    cleared.look()
    assert cleared.spare(verdict, call, "pass").action == "pass"
    path.unlink()
    cleared.look()
    assert cleared.spare(verdict, call, "pass").action == "pass"
    write_cleared(path, {}, 2)
    cleared.look()
    assert cleared.spare(verdict, call, "pass") is verdict
    cleared.close()


def test_a_repaired_file_is_read(tmp_path, monkeypatch):
    cleared, path = ClearedCallers(tmp_path / FILE), tmp_path / FILE
    spared = lambda: cleared.spare(small_verdict(), keyed("e1.a"), "pass").action == "pass"
    write_cleared(path, {"e1.a": 2_000_000_000_000}, 1)
    path.chmod(0o660)
    cleared.look()
    assert (cleared.faults, spared()) == (1, False)
    path.chmod(0o600)  # same content as before
    cleared.look()
    assert (cleared.faults, spared()) == (1, True)
    write_cleared(path, {}, 2)
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.open", refused)
        cleared.look()
    assert (cleared.faults, spared()) == (2, True)
    cleared.look()
    assert (cleared.faults, spared()) == (2, False)


refused = raising(OSError(24, "Too many open files"))


def test_a_file_without_a_generation_is_refused_in_one_line_and_rewritten(tmp_path):
    path = tmp_path / FILE
    write_cleared(path, {"e1.a": 1000}, 3)
    assert generation_of(path) == 3
    whole = path.read_bytes()
    for value in (b"null", b'"3"', b"[]", b"Infinity", b"1.5"):
        path.write_bytes(whole.replace(b'"generation": 3', b'"generation": ' + value))
        with pytest.raises(ValueError, match=r"generation: expected a whole number, got [^\n]*$"):
            read_cleared(path)
        assert generation_of(path) == -1  # belongs to no store, so the next publication rewrites the file


def test_an_unreadable_file_is_a_fault_and_a_missing_file_is_not(tmp_path):
    (tmp_path / "file").touch()
    assert [ClearedCallers(tmp_path / name / FILE).faults for name in ("nothing", "file")] == [0, 1]


def test_only_the_callers_own_calls_are_spared_and_only_until_the_end(tmp_path):
    write_cleared(tmp_path / FILE, {"e1.a": 1000}, 1)
    cleared = WatchedClearedCallers(tmp_path / FILE, every=60.0)
    verdict = small_verdict()
    assert cleared.spare(verdict, keyed("e1.a", start=999), "pass").status == "cleared"
    for call in (keyed("e1.a", start=1000), keyed("e1.b"), keyed("e1.a", presented_differs=1),
                 keyed("e1.a", attestation=3)):  # fmt: skip
        assert cleared.spare(verdict, call, "pass") is verdict
    assert cleared.spared == 1
    cleared.close()


def test_network_and_register_facts_hold_for_a_cleared_caller_but_not_behaviour(labelling_bundle):
    """A cleared courier may call often, but a clearance does not permit a failed authentication."""
    rules = {"ring_once": "screen", "authentication_failed": "block"}
    policy = Policy("1", {"certified": "label"}, rules, "the complaints office", history_days=0)
    scorer = Scorer(load(labelling_bundle, small.TRUSTED), policy)
    assert {RULE_BY_NAME[name].kind for name in rules} == {BEHAVIOUR, NETWORK}
    for names, action in (((), "pass"), (("ring_once",), "pass"), (tuple(rules), "block")):
        facts = tuple(Fact(name, "", "", float("nan"), float("nan"), "", "", "", "") for name in names)
        assert scorer.action_if_cleared(replace(small_verdict(), rules=facts))[0] == action


def small_verdict():
    return Verdict("block", 0.9, "certified", None, None, (), "scored", "f" * 16, "m", "")


def keyed(caller, **more):
    call = real_bundle.key_calls([Call(0.5, "13800138000", "13900139000")])[0]
    return replace(call, caller=caller, **more)
