"""Looks at calls of a certificate: the audit log of the training counts them; without a log they are refused."""

import errno
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from callsieve.training.adapt.adapting import Adaptation
from callsieve.training.adapt.answers import read_sheets
from callsieve.training.adapt.base import read_base
from callsieve.training.data.sources import folder_source
from callsieve.training.model.settings import Settings
from callsieve.training.oversight.audit.attempts import attempts
from callsieve.training.oversight.log.audit_log import append, erase, payloads
from callsieve.training.oversight.log.gates import shipped_gates
from callsieve.training.oversight.log.key_folder import VARIABLE, key_path
from callsieve.training.oversight.log.looks import (
    FILE,
    Fold,
    Ledger,
    certified_on,
    count_look,
    in_words,
    ledger_beside,
    register_look,
    registered_looks,
)
from callsieve.training.run import Looks
from tests.support import small_bundle as small
from tests.support.errors import raising
from tests.support.simulated import mark_simulated
from tests.support.trainings.adapted_network import write_base

DATA = "ab" * 32
FOLD = Fold.of(DATA, (0, 10))
SPAN, NO_SPAN = (["1970-01-01T00:00:10Z", f"1970-01-01T00:00:{end}Z"] for end in (20, 10))
CARD = SimpleNamespace(
    training={
        "folders": [
            {"data": "cd" * 32, "folds": {"certify": SPAN}},
            {"data": DATA, "folds": {"certify": NO_SPAN}},  # a folder to learn from alone
            {"data": DATA, "folds": {"certify": SPAN}},
        ]
    }
)
NOT_COUNTED = "this use of the calls was not recorded"


@pytest.fixture(autouse=True)
def own_keys(tmp_path, monkeypatch):
    """A key folder of the test alone: it counts looks at equal calls."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "keys"))


@pytest.fixture
def folder(training_run, run_key, tmp_path, monkeypatch):
    """A copy of the files of a run and of its key, for tests that change them."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "keys"))
    (tmp_path / "keys").mkdir()
    shutil.copy2(run_key, tmp_path / "keys")
    for name in ("bundle", "audit", "record"):
        shutil.copytree(training_run[0] / name, tmp_path / "run" / name)
    shutil.copy(training_run[0] / "signer.pub", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def own_world(world_folder, tmp_path):
    """A copy of the world at which no other test has looked."""
    return shutil.copytree(world_folder, tmp_path / "own", ignore=shutil.ignore_patterns(FILE))


@pytest.fixture
def others(world_folder, tmp_path):
    """Other data: the calls of the world without its last call."""
    shutil.copytree(world_folder, tmp_path / "others", ignore=shutil.ignore_patterns(FILE))
    calls = pq.read_table(world_folder / "calls.parquet")
    last = pc.equal(calls["start"], pc.max(calls["start"]))
    pq.write_table(calls.filter(pc.invert(last)), tmp_path / "others" / "calls.parquet")
    mark_simulated(tmp_path / "others")
    return tmp_path / "others"


def commands_in(folder):
    """Returns the commands whose looks the audit log of a folder counts."""
    return [payload.get("by") for _, payload in payloads(folder / "audit", "touch")]


def test_the_ledger_is_the_log_and_the_key_beside_the_bundle(folder, tmp_path):
    ledger = ledger_beside(folder / "bundle", None, None)
    assert (ledger.log, ledger.gates) == (folder / "audit", shipped_gates())
    assert ledger.touch(DATA, (0, 10), "test", None)["touches"] == 1  # so the key is that of the log
    key = key_path(folder, folder / "audit")
    assert ledger_beside(folder / "bundle", tmp_path / "new", key).log == tmp_path / "new"
    key.rename(tmp_path / "moved.key")
    assert ledger_beside(folder / "bundle", None, None) is None
    assert ledger_beside(folder / "bundle", None, tmp_path / "moved.key").log == folder / "audit"
    with pytest.raises(ValueError, match=r"\.key: no key of the audit log; expected --signing-key FILE"):
        ledger_beside(folder / "bundle", folder / "audit", None)
    with pytest.raises(ValueError, match=r"absent.key: no key of the audit log"):
        ledger_beside(folder / "bundle", None, tmp_path / "absent.key")
    shutil.rmtree(folder / "audit")
    assert ledger_beside(folder / "bundle", None, None) is None
    with pytest.raises(ValueError, match=r"audit: no audit log; expected --audit FOLDER"):
        ledger_beside(folder / "bundle", None, tmp_path / "moved.key")


@pytest.mark.parametrize(
    ("data", "span", "is_fold"),
    [
        (DATA, (0, 10_000), False),
        (DATA, (0, 10_001), True),
        (DATA, (20_999, 30_000), True),  # the card has whole seconds
        (DATA, (21_000, 30_000), False),
        ("ef" * 32, (0, 30_000), False),
    ],
)
def test_a_look_without_a_log_is_refused_only_at_calls_of_the_certificate(data, span, is_fold):
    assert certified_on(CARD, data, span) is is_fold
    assert not certified_on(SimpleNamespace(training={}), data, span)  # a card without folds
    if is_fold:
        with pytest.raises(ValueError, match=r"look: the model was certified on .* --audit FOLDER .*--signing-key"):
            count_look(None, CARD, data, span, "look", None)
    else:
        count = count_look(None, CARD, data, span, "look", None)
        assert count == {"fold": None, "touches": None, "registered": False}
        assert in_words(count).startswith(NOT_COUNTED)


def test_a_log_counts_all_looks_at_overlapping_calls(tmp_path):
    ledger = Ledger(tmp_path / "audit", small.KEY, shipped_gates())
    spans = ((0, 30_000), (20_000, 40_000), (30_000, 40_000))
    counts = [count_look(ledger, CARD, DATA, span, "look", None) for span in spans]
    assert [count["touches"] for count in counts] == [1, 2, 2]  # the last overlaps the second alone
    assert in_words(counts[1]) == (
        "use 2 of these calls, recorded in the audit log alone; uses in other logs are not known: "
        f"fold {DATA[:16]} 20000..40000"
    )
    assert commands_in(tmp_path) == ["look"] * 3


def test_evaluate_counts_its_look_or_refuses_calls_of_the_certificate(
    folder, own_world, others, command_json, command_error, command_text, training_run
):
    before = commands_in(folder)
    words = ("evaluate", "--bundle", folder / "bundle", "--data")
    figures = command_json(*words, own_world)
    assert commands_in(folder) == [*before, "evaluate"]
    # The calls after the first 7 days include the certification fold, at which the training looked.
    assert figures["touches"] == len(before) + 1 > 1
    assert figures["fold"].startswith(training_run[1]["data"]["fingerprint"][:16])
    assert f"use {figures['touches'] + 1} of these calls" in command_text(*words, own_world)
    assert command_json(*words, others)["touches"] == 1
    key_path(folder, folder / "audit").unlink()
    err = command_error(*words, own_world)
    assert err.count("\n") == 1
    assert "evaluate: the model was certified on these calls" in err and "--signing-key FILE" in err
    # A look at other calls is allowed, and the output states that it is not counted.
    assert NOT_COUNTED in command_text(*words, others)
    figures = command_json(*words, others)
    assert (figures["fold"], figures["touches"]) == (None, None)
    assert commands_in(folder) == [*before, "evaluate", "evaluate", "evaluate"]


def test_rules_with_a_model_and_policies_with_a_truth_are_looks(
    folder, own_world, command_json, command_error, run_command, tmp_path
):
    before, bundle = commands_in(folder), ("--bundle", folder / "bundle")
    assert "model" not in command_json("study", "rules", "--data", own_world)
    assert commands_in(folder) == before
    figures = command_json("study", "rules", "--data", own_world, *bundle)
    assert (figures["model"]["touches"], commands_in(folder)) == (len(before) + 1, [*before, "rules"])
    (tmp_path / "none.toml").write_text('version = "none"\n[bands]\n')
    policies = ("study", "policies", tmp_path / "none.toml", tmp_path / "none.toml", "--layout", "keyed")
    policies += ("--calls", own_world / "calls.parquet", *bundle)
    truth = ("--truth", own_world / "truth.parquet")
    assert "touches" not in command_json(*policies)
    figures = command_json(*policies, *truth)
    assert (figures["touches"], commands_in(folder)) == (len(before) + 2, [*before, "rules", "policy diff"])
    code, out, _ = run_command(*policies, *truth)
    assert code == 0 and f"use {len(before) + 3} of these calls" in out
    shutil.rmtree(folder / "audit")
    for words in (("study", "rules", "--data", own_world, *bundle), (*policies, *truth)):
        code, out, err = run_command(*words)
        assert (code, out) == (1, "") and "--audit FOLDER" in err and err.count("\n") == 1
    # --audit is refused where it has no effect.
    for words in (("study", "rules", "--data", own_world), policies):
        assert "--audit: not used with" in command_error(*words, "--audit", tmp_path / "log", code=2)


def test_monitoring_counts_a_look_only_at_calls_of_the_certificate(
    folder, own_world, others, command_error, run_command
):
    before, words = commands_in(folder), ("model", "monitor", "--bundle", folder / "bundle", "--data")
    _, out, _ = run_command(*words, own_world)
    assert f"use {len(before) + 1} of these calls" in out and commands_in(folder) == [*before, "monitor"]
    shutil.rmtree(folder / "audit")
    assert "monitor: the model was certified on these calls" in command_error(*words, own_world)
    _, out, _ = run_command(*words, others)
    assert "were flagged" in out and "of these calls" not in out


def new_ledger(folder):
    return Ledger(folder / "audit", small.KEY, shipped_gates())


def test_another_log_does_not_begin_at_1_again(tmp_path):
    data, counts = tmp_path / "data", []
    data.mkdir()
    for name in ("first", "second", "third"):
        ledger = new_ledger(tmp_path / name)
        ledger.begin()
        counts += [ledger.touch(DATA, (0, 10), "train", data), ledger.touch("cd" * 32, (0, 10), "train", data)]
    assert [count["touches"] for count in counts] == [1, 1, 2, 2, 3, 3]
    assert in_words(counts[-1]).startswith("use 3 of these calls, recorded in the audit log and beside the calls: fold")
    assert new_ledger(tmp_path / "first").touch(DATA, (10, 20), "train", data)["touches"] == 1  # other calls
    assert new_ledger(tmp_path / "first").touch(DATA, (5, 15), "train", data)["touches"] == 5
    assert [look.by for look in registered_looks(data)] == ["train"] * 8


def test_attempts_count_the_uses_that_a_run_states(tmp_path):
    """The run was judged on calls that another log had used before."""
    (tmp_path / "data").mkdir()
    new_ledger(tmp_path / "first").touch(DATA, (0, 10), "train", tmp_path / "data")
    ledger = new_ledger(tmp_path / "second")
    entry = ledger.begin()
    look = ledger.touch(DATA, (0, 10), "train", tmp_path / "data")
    gates = look | {"entry": entry, "sha256": ledger.gates.sha256, "refused": [], "owner": ""}
    run = {"run": "r1", "version": "", "model": "m1", "gates": gates, "record": {"metric": {}}}
    append(ledger.log, "run", run, ledger.key)
    [row] = attempts(ledger.log)
    assert (look["touches"], row.uses, row.looks) == (2, 2, ("train",))
    ledger.touch(DATA, (0, 10), "evaluate", tmp_path / "data")
    assert attempts(ledger.log)[0].uses == 3


def test_no_erasure_resets_the_count(tmp_path):
    data, ledger = tmp_path / "data", new_ledger(tmp_path)
    data.mkdir()
    append(ledger.log, "access", {"what": "begun"}, small.KEY)
    assert ledger.touch(DATA, (0, 10), "train", data)["touches"] == 1
    with pytest.raises(ValueError, match="entry 1: is of kind touch; it must stay"):
        erase(ledger.log, 1, "hide it", small.KEY)
    shutil.rmtree(ledger.log / "payloads")
    assert ledger.touch(DATA, (0, 10), "train", data)["touches"] == 2
    (data / FILE).unlink()  # the log still counts the look without a payload
    assert ledger.touch(DATA, (0, 10), "train", data)["touches"] == 3


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    assert register_look(data, FOLD, "another", "train")
    monkeypatch.setattr("fcntl.flock", raising(OSError(errno.EROFS, os.strerror(errno.EROFS))))
    assert not register_look(data, FOLD, "another", "train")
    monkeypatch.undo()
    with (data / FILE).open("ab") as file:
        file.write(b'{"fold": "half')  # a crash
    assert len(registered_looks(data)) == 1
    assert register_look(data, FOLD, "another", "train") and len(registered_looks(data)) == 2
    (data / FILE).write_bytes(b"{}\n")
    with pytest.raises(ValueError, match=r"looks\.jsonl, line 1: object missing required field `fold`"):
        registered_looks(data)


def test_a_training_counts_the_looks_of_earlier_ones_before_it_reads_on(own_world, tmp_path):
    for number in (1, 2):
        looks = Looks(new_ledger(tmp_path / str(number)), Settings(), tmp_path / f"run{number}")
        source = looks.counted(folder_source(own_world, "both"))
        source.read()
        assert (looks.entry()["touches"], looks.entry()["registered"]) == (number, True)
        assert len(registered_looks(own_world)) == number
    # Files that were keyed for this run alone are in its folder.
    looks = Looks(new_ledger(tmp_path / "3"), Settings(), own_world.parent)
    looks.counted(folder_source(own_world, "both")).read()
    assert (looks.entry()["touches"], looks.entry()["registered"]) == (1, False)


@pytest.mark.source("L32", by="training/oversight/log/looks.py")
def test_copied_calls_without_their_looks_are_recognised(own_world, tmp_path):
    """The copy has no registry and is judged in another log; simulated calls may be made again by anybody."""
    (tmp_path / "keys").mkdir()

    def uses(name, folder):
        looks = Looks(new_ledger(tmp_path / name), Settings(), tmp_path / f"run {name}")
        looks.counted(folder_source(folder, "both")).read()
        return looks.entry()["touches"]

    (own_world / "world.json").unlink(missing_ok=True)
    assert uses("first", own_world) == 1
    copy = Path(shutil.copytree(own_world, tmp_path / "copy", ignore=shutil.ignore_patterns(FILE)))
    assert uses("second", copy) == 2
    assert uses("third", own_world) == 3
    simulated = Path(shutil.copytree(copy, tmp_path / "simulated", ignore=shutil.ignore_patterns(FILE)))
    mark_simulated(simulated)
    assert uses("fourth", simulated) == 1


def sheet_of(path, *rows):
    """Writes a filled-in sheet; each row is the end of a token, a probability or "", and a verdict."""
    lines = [f"e1.{end * 32},{probability},{1 if probability else 2},{verdict}" for end, probability, verdict in rows]
    text = "\n".join(f"{line},{'2025-03-20' if line[-1] != ',' else ''}" for line in lines)
    path.write_text(f"number,probability,look,verdict,checked_at\n{text}\n")
    return path


@pytest.fixture
def uses_of_a_round(own_world, tmp_path):
    """Counts the uses after a round of an adaptation with these sheets, in a log of its own or in a shared one."""
    write_base(tmp_path)
    base, began = read_base(tmp_path / "bundle"), []

    def run(*sheets, log=None, **settings):
        began.append(log)
        adaptation = Adaptation(base, read_sheets(sheets))
        ledger = new_ledger(tmp_path / (log or str(len(began))))
        looks = Looks(ledger, Settings(**settings), tmp_path / f"run{len(began)}", adaptation)
        looks.counted(folder_source(own_world, "certify")).read()
        return looks.entry()["touches"]

    return run


FIRST = (("a", "0.5", "nuisance"), ("b", "1", "innocent"), ("c", "0.25", ""))


@pytest.mark.parametrize("log", [None, "shared"])
def test_the_rounds_of_an_adaptation_are_one_use(uses_of_a_round, own_world, tmp_path, log):
    first = sheet_of(tmp_path / "first.csv", *FIRST)
    second = sheet_of(tmp_path / "second.csv", ("a", "", "nuisance"))
    third = sheet_of(tmp_path / "third.csv", ("b", "", "innocent"))
    assert uses_of_a_round(log=log) == 1
    assert uses_of_a_round(first, log=log) == 1
    assert uses_of_a_round(first, second, log=log) == 1
    # More of a sheet is filled in, and it is given back last.
    assert uses_of_a_round(third, second, sheet_of(first, *FIRST[:2], ("c", "0.25", "nuisance")), log=log) == 1
    looks = registered_looks(own_world)
    assert [len(look.round.answers) for look in looks] == [0, 2, 3, 5]
    folders = [tmp_path / (log or str(place)) for place in range(1, 5)][:: 4 if log else 1]
    logged = [payload for folder in folders for _, payload in payloads(folder / "audit", "touch")]
    assert [touch["follows"] for touch in logged] == ["", *(look.round.digest for look in looks[:3])]
    assert uses_of_a_round(seed=1, log=log) == 2
    assert not re.search("[abc]{32}", (own_world / FILE).read_text())


@pytest.mark.parametrize(
    "rows",
    [
        (("a", "0.5", "nuisance"), ("b", "1", "innocent"), ("d", "0.25", "")),
        (("a", "0.4", "nuisance"), ("b", "1", "innocent"), ("c", "0.25", "")),
        (("a", "0.5", "innocent"), ("b", "1", "innocent"), ("c", "0.25", "")),
        (("a", "0.5", "nuisance"), ("b", "1", ""), ("c", "0.25", "")),
    ],
    ids=["another caller drawn", "another probability", "another answer", "an answer withdrawn"],
)
@pytest.mark.source("L32", by="training/oversight/log/rounds.py")
@pytest.mark.parametrize("log", [None, "shared"])
def test_another_draw_or_another_answer_is_another_use(uses_of_a_round, tmp_path, log, rows):
    sheets = sheet_of(tmp_path / "first.csv", *FIRST), sheet_of(tmp_path / "other.csv", *rows)
    assert [uses_of_a_round(log=log), *(uses_of_a_round(sheet, log=log) for sheet in sheets)] == [1, 1, 2]
    assert uses_of_a_round(sheets[1], sheet_of(tmp_path / "more.csv", ("b", "", "nuisance")), log=log) == 2


def test_other_tables_another_base_and_other_commands_are_other_uses(uses_of_a_round, own_world, tmp_path):
    assert uses_of_a_round() == 1
    complaints = pq.read_table(own_world / "complaints.parquet")
    pq.write_table(complaints.slice(1), own_world / "complaints.parquet")
    assert uses_of_a_round() == 2
    assert uses_of_a_round(valid_days=7) == 2
    dataset = folder_source(own_world, "certify").read()
    span = Fold.parse(registered_looks(own_world)[0].fold)
    touch = new_ledger(tmp_path / "evaluated").touch(dataset.fingerprint, (span.begin, span.end), "evaluate", own_world)
    assert touch["touches"] == 3
    assert uses_of_a_round() == 3
