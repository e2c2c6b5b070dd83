"""Exports and verdicts encrypt callees under a separate key: they join with no history, and the key can be erased."""

import io
import json
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features import Intake, Key
from callsieve.features.files.progress import silent
from callsieve.features.intake.numbers import parse_in_period
from callsieve.features.keys.callee_keys import CalleeCipher
from callsieve.features.keys.rotation import Rekeying
from callsieve.serving.batch.call_files import CallFile
from callsieve.serving.batch.file_scoring import ScoreInputs, score_file
from callsieve.serving.batch.output_keys import with_callee_keys
from callsieve.serving.custody.purposes import declare
from callsieve.training.oversight.governance.incident import affected
from callsieve.training.oversight.log.audit_log import append
from callsieve.training.oversight.privacy import tables
from callsieve.training.oversight.privacy.places import Person
from callsieve.training.oversight.privacy.rekey import left_of
from tests.features.keys.test_rotation import LETTERS, NEW, OLD, body
from tests.support import real_bundle
from tests.support import small_bundle as small
from tests.support.debian import program
from tests.support.erasures import carried_out
from tests.support.keys import write_key
from tests.support.trainings import recorded_run
from tests.training.oversight.privacy.test_deletion import NOW, RULES

SIDES = ("caller", "callee")
FIRST, SECOND = (Key(name, bytes(range(n, n + 32)), purpose="callees") for name, n in (("c1", 9), ("c2", 70)))


def test_a_called_number_is_encrypted_by_aes_over_its_token():
    token = OLD.token("number", "+8613800138000")
    data = bytes.fromhex(token.partition(".")[2].translate({after: before for before, after in LETTERS.items()}))
    words = [program("openssl"), "enc", "-aes-256-ecb", "-nopad", "-K", FIRST.secret.hex()]
    hidden = subprocess.run(words, input=data, stdout=subprocess.PIPE, check=True).stdout
    assert CalleeCipher(FIRST).token(token) == "c1." + hidden.hex().translate(LETTERS)


@given(st.lists(st.text(), max_size=5))
def test_both_keys_are_rotated_in_one_pass(texts):
    """Lines become those of the new epoch, also when rekeyed twice; other tokens and texts do not change."""
    keys = Rekeying(OLD, NEW, (FIRST, SECOND))
    before, after = OLD.tokens("number", texts), NEW.tokens("number", texts)
    tokens = [*before, *CalleeCipher(FIRST).tokens(before), "-"]
    expected = [*after, *CalleeCipher(SECOND).tokens(after), "-"]
    assert keys.tokens(tokens) == expected == keys.tokens(expected)
    assert keys.line(" ".join(tokens).encode()) == " ".join(expected).encode()


def test_a_slice_keeps_no_words_of_other_rows():
    columns = [pa.array(OLD.tokens("number", texts)).dictionary_encode() for texts in (["a", "b"], ["c", "d"])]
    table = with_callee_keys(pa.table(columns, names=SIDES).slice(1), CalleeCipher(FIRST))
    assert [table[name].chunk(0).dictionary.to_pylist() for name in SIDES] == [
        table[name].to_pylist() for name in SIDES
    ]


def test_keys_with_equal_epochs_are_refused():
    for callees in ((FIRST, FIRST), (FIRST, Key("e2", bytes(32), purpose="callees")), (FIRST, Key("e1", bytes(32)))):
        with pytest.raises(ValueError, match="epochs must all be different"):
            Rekeying(OLD, NEW, callees)
    for key in (OLD, Key.generate("s1", "sharing")):
        with pytest.raises(ValueError, match=f"need a key for callees, got one for {key.purpose}"):
            CalleeCipher(key)
    with pytest.raises(ValueError, match=r"called numbers: expected keyed tokens") as error:
        CalleeCipher(FIRST).tokens(["13800138000"])
    assert "138" not in str(error.value)


@pytest.fixture(scope="module")
def history():
    """Calls in which all numbers call each other, keyed in the first epoch."""
    calls = real_bundle.calls(200)
    numbers = np.array(real_bundle.CALLERS[:6])
    table = real_bundle.key_table(calls)
    moved = pc.add(table["start"], NOW - 3_600_000 - pc.max(table["start"]).as_py())
    table = table.set_column(table.column_names.index("start"), "start", moved)
    table = table.set_column(table.column_names.index("recorded"), "recorded", pa.nulls(len(calls), pa.int64()))
    rng = np.random.default_rng(3)
    for name in ("caller", "callee"):
        tokens = Intake(OLD).keyed("number", pa.array(numbers[rng.integers(0, 6, len(calls))]))
        table = table.set_column(table.column_names.index(name), name, tokens)
    return table


def tokens_of(table, *names):
    return {token for name in names for token in table[name].cast(pa.string()).to_pylist()}


@pytest.fixture(scope="module")
def site(history, tmp_path_factory):
    """A folder with a declared history, keys and a bundle, and two empty folders for verdicts."""
    place = tmp_path_factory.mktemp("site")
    for name in ("data", "kept", "once"):
        (place / name).mkdir()
    pq.write_table(history, place / "data" / "calls.parquet")
    declare(place / "data", "switch of the test", "contract", ["export", "scoring"], "2999-12-31")
    for key, name in ((OLD, "old"), (NEW, "new"), (FIRST, "c1"), (SECOND, "c2")):
        key.write(place / f"{name}.key")
    write_key(small.KEY, place / "signing.key")
    real_bundle.write_signed(place)
    return place


@pytest.fixture(scope="module")
def scored(site):
    for name, key in (("kept", site / "c1.key"), ("once", None)):
        calls = CallFile(path=site / "data" / "calls.parquet", layout="keyed")
        out = site / name / "verdicts.parquet"
        score_file(ScoreInputs(calls=calls, bundle=site / "bundle", out=out, callees=key), threads=1, progress=silent)
    return site


@pytest.mark.source("P1", "P4", by="serving/batch/output_keys.py")
def test_callees_of_verdicts_and_exports_join_with_no_history(scored, history, command_json):
    moments = pc.min_max(history["start"]).as_py().values()
    days = [datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d") for at in moments]
    out = scored / "kept" / "export.parquet"
    period = ("--first", days[0], "--last", days[1], "--purpose", "a sample", "--person", "me")
    output = ("--out", out, "--callees-key", scored / "c1.key")
    command_json("privacy", "export", "--data", scored / "data", *period, *log_of(scored), *output)
    in_history = tokens_of(history, "caller", "callee")
    assert tokens_of(history, "caller") == tokens_of(history, "callee")  # in the history a call back shows
    for path in (scored / "kept" / "verdicts.parquet", out, scored / "once" / "verdicts.parquet"):
        table = pq.read_table(path)
        assert tokens_of(table, "caller") <= in_history
        assert not body(tokens_of(table, "callee")) & body(in_history)
        # An attacker with the key of records who tries every number learns no callee.
        numbers = [parse_in_period(text, 0).canonical for text in real_bundle.CALLERS]
        assert not body(tokens_of(table, "callee")) & body(OLD.tokens("number", numbers))
        # Calls to the same person still share one token.
        codes = [
            pd.factorize(calls["callee"].to_pandas().astype(str))[0] for calls in (table, history.sort_by("start"))
        ]
        np.testing.assert_array_equal(*codes)
        rest = [name for name in history.column_names if name in table.column_names and name != "callee"]
        assert table.select(rest).to_pylist() == history.sort_by("start").select(rest).to_pylist()
    paths = (scored / "kept" / "verdicts.parquet", out, scored / "once" / "verdicts.parquet")
    kept_key, export, once = (tokens_of(pq.read_table(path), "callee") for path in paths)
    assert kept_key == export == set(CalleeCipher(FIRST).tokens(tokens_of(history, "callee"))) and not body(
        kept_key
    ) & body(once)


def log_of(place):
    return "--audit", place / "audit", "--signing-key", place / "signing.key"


@pytest.mark.source("P2", by="features/keys/rotation.py")
@pytest.mark.source("P2", by="training/oversight/privacy/rekey.py")
def test_rotation_rekeys_written_files_and_a_destroyed_key_erases_callees(scored, tmp_path, command_json):
    data, log = tmp_path / "data", log_of(tmp_path)
    shutil.copytree(scored / "data", data)
    shutil.copy(scored / "kept" / "verdicts.parquet", data / "verdicts.parquet")
    write_key(small.KEY, tmp_path / "signing.key")
    for name in ("old", "new", "c1", "c2"):
        shutil.copy(scored / f"{name}.key", tmp_path / f"{name}.key")
    stolen = pq.read_table(data / "verdicts.parquet")
    old, new, c1, c2 = (tmp_path / f"{name}.key" for name in ("old", "new", "c1", "c2"))
    command_json("privacy", "key", "rekey", old, new, *log, "--data", data, "--callees-key", c1, c2)
    calls, verdicts = (pq.read_table(data / name) for name in ("calls.parquet", "verdicts.parquet"))
    expected = with_callee_keys(calls.sort_by("start"), CalleeCipher(SECOND))["callee"].cast(pa.string())
    assert verdicts["callee"].cast(pa.string()).to_pylist() == expected.to_pylist()
    assert left_of(data, "e1") == left_of(data, "c1") == 0
    for path in (old, c1):
        command_json("privacy", "key", "destroy", path, "--why", "over", *log, "--data", data)
        assert not path.exists()
    # An attacker with all remaining keys and numbers cannot assign any stolen token.
    numbers = [parse_in_period(text, 0).canonical for text in real_bundle.CALLERS]
    tried = NEW.tokens("number", numbers) + replace(NEW, cover=None).tokens("number", numbers)
    tried += CalleeCipher(SECOND).tokens(tried)
    assert not body(tokens_of(stolen, "caller", "callee")) & body(tried)
    # With both old keys all tokens could be assigned.
    assert tokens_of(stolen, "callee") <= set(CalleeCipher(FIRST).tokens(OLD.tokens("number", numbers)))


@pytest.mark.source("P6", by="training/oversight/privacy/tables.py")
def test_a_person_is_deleted_from_verdicts_also_as_callee(scored, tmp_path, history):
    token = history["callee"][0].as_py()
    for name, callees, message in (
        ("kept", None, "are under key c1"),
        ("kept", CalleeCipher(SECOND), "are under key c1"),
        ("kept", CalleeCipher(FIRST), ""),
        ("once", None, ""),
    ):
        path = Path(shutil.copy(scored / name / "verdicts.parquet", tmp_path))
        before = path.read_bytes()
        if message:
            with pytest.raises(ValueError, match=message):
                carried_out([tables.plan_verdict_deletion(path, Person(token, callees), RULES, NOW)])
            assert path.read_bytes() == before
            continue
        [counts] = carried_out([tables.plan_verdict_deletion(path, Person(token, callees), RULES, NOW)]).values()
        called = [] if callees is None else [callees.token(token)]  # a temporary key leaves no callee to delete
        rows = pq.read_table(scored / name / "verdicts.parquet")
        mine = [pc.is_in(rows[side].cast(pa.string()), value_set=pa.array([token, *called])) for side in SIDES]
        assert counts["deleted"] == pc.sum(pc.or_(*mine)).as_py() > 0
        assert pq.read_table(path).num_rows == rows.num_rows - counts["deleted"]


def test_reidentification_of_a_callee_needs_both_keys(scored, tmp_path, monkeypatch, run_command):
    number = real_bundle.CALLERS[0]
    token = CalleeCipher(FIRST).token(Intake(OLD).token("number", number))
    write_key(small.KEY, tmp_path / "signing.key")
    for place, key in enumerate(recorded_run.APPROVERS):
        write_key(key, tmp_path / f"{place}.key")
    recorded_run.write_gates(tmp_path / "gates.toml")
    outcomes = []
    append(tmp_path / "audit", "policy", {"what": "begun", "why": "none"}, small.KEY)
    for more in ((), ("--callees-key", scored / "c1.key")):
        # An act can be used once; acts of the same second with equal words are equal.
        request = (token, "--purpose", f"court order {len(more)}", "--person", "risk")
        act = tmp_path / f"act{len(more)}.json"
        audit = ("--audit", tmp_path / "audit")
        assert run_command("privacy", "ticket", "reidentify", *request, "--out", act, *audit)[0] == 0
        tickets = []
        for place in (1, 2):
            tickets += ["--ticket", tmp_path / f"{place}-{len(more)}.json"]
            signed = ("--signing-key", tmp_path / f"{place}.key", "--out", tickets[-1])
            assert run_command("privacy", "ticket", "agree", act, *signed)[0] == 0
        monkeypatch.setattr("sys.stdin", io.StringIO(f"13800138009\n{number}\n"))
        rules = ("--key", scored / "old.key", "--gates", tmp_path / "gates.toml", *log_of(tmp_path), *tickets)
        code, out, _ = run_command("privacy", "reidentify", *request, *rules, *more, "--json")
        outcomes += [(code, json.loads(out))]
    assert outcomes == [(0, {"numbers": []}), (0, {"numbers": [{"token": token, "number": number}]})]


def test_an_incident_lists_the_keys_under_which_callees_are_readable(scored, tmp_path):
    for keys, readable in (((), []), (("c1",), []), (("old",), ["e1"]), (("old", "c1"), ["c1", "e1"])):
        copy = tmp_path / "-".join(("gone", *keys))
        copy.mkdir()
        shutil.copy(scored / "kept" / "verdicts.parquet", copy)
        for name in keys:
            shutil.copy(scored / f"{name}.key", copy)
        assert affected([copy]).readable == readable
