"""Looks at calls of a certificate: the audit log of the training counts them; without a log they are refused."""

import shutil
from types import SimpleNamespace

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from callsieve.training.log.audit_log import payloads
from callsieve.training.log.gates import shipped_gates
from callsieve.training.log.looks import Ledger, certified_on, count_look, in_words, ledger_beside
from tests.support import small_bundle as small

DATA = "ab" * 32
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
NOT_COUNTED = "this look at the calls was not counted"


@pytest.fixture
def folder(training_run, tmp_path):
    """A copy of the files of a run, for tests that change them."""
    for name in ("bundle", "audit", "record"):
        shutil.copytree(training_run[0] / name, tmp_path / "run" / name)
    for name in ("signer.pub", "signing.key"):
        shutil.copy(training_run[0] / name, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def others(world_folder, tmp_path):
    """Other data: the calls of the world without its last call."""
    shutil.copytree(world_folder, tmp_path / "others")
    calls = pq.read_table(world_folder / "calls.parquet")
    last = pc.equal(calls["start"], pc.max(calls["start"]))
    pq.write_table(calls.filter(pc.invert(last)), tmp_path / "others" / "calls.parquet")
    return tmp_path / "others"


def commands_in(folder):
    """Returns the commands whose looks the audit log of a folder counts."""
    return [payload.get("by") for _, payload in payloads(folder / "audit", "touch")]


def test_the_ledger_is_the_log_and_the_key_beside_the_bundle(folder, tmp_path):
    ledger = ledger_beside(folder / "bundle", None, None)
    assert (ledger.log, ledger.gates) == (folder / "audit", shipped_gates())
    assert ledger.touch(DATA, (0, 10), "test")["touches"] == 1  # so the key is that of the log
    key = folder / "signing.key"
    assert ledger_beside(folder / "bundle", tmp_path / "new", key).log == tmp_path / "new"
    key.rename(tmp_path / "moved.key")
    assert ledger_beside(folder / "bundle", None, None) is None
    assert ledger_beside(folder / "bundle", None, tmp_path / "moved.key").log == folder / "audit"
    with pytest.raises(ValueError, match=r"signing.key: no key of the audit log; expected --signing-key FILE"):
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
    if is_fold:
        with pytest.raises(ValueError, match=r"look: the model was certified on .* --audit FOLDER .*--signing-key"):
            count_look(None, CARD, data, span, "look")
    else:
        count = count_look(None, CARD, data, span, "look")
        assert count == {"fold": None, "touches": None}
        assert in_words(count).startswith(NOT_COUNTED)


def test_a_card_without_folds_has_no_calls_of_a_certificate():
    assert not certified_on(SimpleNamespace(training={}), DATA, (0, 30_000))


def test_a_log_counts_all_looks_at_overlapping_calls(tmp_path):
    ledger = Ledger(tmp_path / "audit", small.KEY, shipped_gates())
    spans = ((0, 30_000), (20_000, 40_000), (30_000, 40_000))
    counts = [count_look(ledger, CARD, DATA, span, "look") for span in spans]
    assert [count["touches"] for count in counts] == [1, 2, 2]  # the last overlaps the second alone
    assert in_words(counts[1]) == f"look 2 at these calls, counted in the audit log: fold {DATA[:16]} 20000..40000"
    assert commands_in(tmp_path) == ["look"] * 3


def test_evaluate_counts_its_look_or_refuses_calls_of_the_certificate(
    folder, world_folder, others, command_json, run_command, training_run
):
    before = commands_in(folder)
    words = ("evaluate", "--bundle", folder / "bundle", "--data")
    figures = command_json(*words, world_folder)
    assert commands_in(folder) == [*before, "evaluate"]
    # The calls after the first 7 days include the certification fold, at which the training looked.
    assert figures["touches"] == len(before) + 1 > 1
    assert figures["fold"].startswith(training_run[1]["data"]["fingerprint"][:16])
    code, out, _ = run_command(*words, world_folder)
    assert code == 0 and f"look {figures['touches'] + 1} at these calls" in out
    assert command_json(*words, others)["touches"] == 1
    (folder / "signing.key").unlink()
    code, out, err = run_command(*words, world_folder)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "evaluate: the model was certified on these calls" in err and "--signing-key FILE" in err
    # A look at other calls is allowed, and the output states that it is not counted.
    code, out, _ = run_command(*words, others)
    assert code == 0 and NOT_COUNTED in out
    figures = command_json(*words, others)
    assert (figures["fold"], figures["touches"]) == (None, None)
    assert commands_in(folder) == [*before, "evaluate", "evaluate", "evaluate"]


def test_rules_with_a_model_and_policies_with_a_truth_are_looks(
    folder, world_folder, command_json, run_command, tmp_path
):
    before, bundle = commands_in(folder), ("--bundle", folder / "bundle")
    assert "model" not in command_json("study", "rules", "--data", world_folder)
    assert commands_in(folder) == before
    figures = command_json("study", "rules", "--data", world_folder, *bundle)
    assert (figures["model"]["touches"], commands_in(folder)) == (len(before) + 1, [*before, "rules"])
    (tmp_path / "none.toml").write_text('version = "none"\n[bands]\n')
    policies = ("study", "policies", tmp_path / "none.toml", tmp_path / "none.toml", "--layout", "keyed")
    policies += ("--calls", world_folder / "calls.parquet", *bundle)
    truth = ("--truth", world_folder / "truth.parquet")
    assert "touches" not in command_json(*policies)
    figures = command_json(*policies, *truth)
    assert (figures["touches"], commands_in(folder)) == (len(before) + 2, [*before, "rules", "policy diff"])
    code, out, _ = run_command(*policies, *truth)
    assert code == 0 and f"look {len(before) + 3} at these calls" in out
    shutil.rmtree(folder / "audit")
    for words in (("study", "rules", "--data", world_folder, *bundle), (*policies, *truth)):
        code, out, err = run_command(*words)
        assert (code, out) == (1, "") and "--audit FOLDER" in err and err.count("\n") == 1
    # --audit is refused where it has no effect.
    for words in (("study", "rules", "--data", world_folder), policies):
        code, _, err = run_command(*words, "--audit", tmp_path / "log")
        assert code == 2 and "--audit: not used with" in err


def test_monitoring_counts_a_look_only_at_calls_of_the_certificate(folder, world_folder, others, run_command):
    before, words = commands_in(folder), ("model", "monitor", "--bundle", folder / "bundle", "--data")
    _, out, _ = run_command(*words, world_folder)
    assert f"look {len(before) + 1} at these calls" in out and commands_in(folder) == [*before, "monitor"]
    shutil.rmtree(folder / "audit")
    code, out, err = run_command(*words, world_folder)
    assert (code, out) == (1, "") and "monitor: the model was certified on these calls" in err
    _, out, _ = run_command(*words, others)
    assert "deviations" in out and "look" not in out.replace("looks more like", "")
