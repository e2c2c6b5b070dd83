"""Key rotation: the next epoch joins the same histories, a destroyed one joins none, stolen tokens give no number."""

import hashlib
import hmac
import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.intake.intake import Intake
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.features.intake.numbers import parse_in_period
from callsieve.features.keys.rotation import Rekeying
from callsieve.features.keys.tokens import PURPOSES, USES, Key, read_key
from callsieve.features.offline.table import vectors
from callsieve.serving import Policy, WatchedClearedCallers
from callsieve.serving.cases.feed import import_verdicts, publish_cleared
from callsieve.serving.cases.store import CaseStore
from callsieve.serving.live.cleared_callers import FILE
from callsieve.serving.live.events import Complaint, read_complaints
from callsieve.serving.live.live import Live
from callsieve.training.oversight.log.audit_log import payloads
from callsieve.training.oversight.privacy import case_store, tables
from callsieve.training.oversight.privacy.rekey import left_of
from tests.support import live_states, real_bundle
from tests.support import small_bundle as small
from tests.support.debian import program
from tests.support.keys import write_key
from tests.support.live_states import events, play

OLD = Key("e1", bytes(range(32)), bytes(range(100, 132)))
NEW = Key("e2", OLD.secret, bytes(range(50, 82)))
LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
AT_ONCE = Policy("t", {"certified": "block", "watch": "label"}, history_days=0)


def test_a_cover_is_aes_over_the_hmac():
    digest = hmac.digest(OLD.secret, b"number\0+8613800138000", "sha256")[:16]
    words = [program("openssl"), "enc", "-aes-256-ecb", "-nopad", "-K", OLD.cover.hex()]
    covered = subprocess.run(words, input=digest, stdout=subprocess.PIPE, check=True).stdout
    assert OLD.token("number", "+8613800138000") == "e1." + covered.hex().translate(LETTERS)


@given(st.sampled_from(USES), st.lists(st.text(), max_size=5), st.booleans())
def test_rekeyed_tokens_are_tokens_of_the_new_key(use, texts, first):
    """Also from a first key that has no cover, and over two rotations."""
    old = replace(OLD, cover=None) if first else OLD
    keys, later = Rekeying(old, NEW), Key("e3", OLD.secret, bytes(32))
    tokens = old.tokens(use, texts)
    assert keys.tokens(tokens) == NEW.tokens(use, texts)
    assert Rekeying(NEW, later).tokens(keys.tokens(tokens)) == later.tokens(use, texts)
    strange = [*texts, *NEW.tokens(use, texts), *(token[:-1] for token in tokens), *(f"x{token}" for token in tokens)]
    assert keys.tokens(strange) == strange  # texts that are not tokens of the old epoch stay
    line = " ".join(["7", *tokens, "-", *NEW.tokens(use, texts)]).encode()
    assert keys.line(line) == " ".join(["7", *NEW.tokens(use, texts), "-", *NEW.tokens(use, texts)]).encode()


def test_only_a_rotated_key_can_rekey_tokens():
    rotated = OLD.rotated("e2")
    assert (rotated.secret, rotated.purpose) == (OLD.secret, OLD.purpose)
    assert rotated.cover not in (None, OLD.cover)
    for new in (
        Key.generate("e2"),
        replace(NEW, cover=None),
        replace(NEW, epoch="e1"),
        replace(NEW, purpose="sharing"),
    ):
        with pytest.raises(ValueError, match=r"is not key e1 rotated|epochs must all be different"):
            Rekeying(OLD, new)
    for wrong in (lambda: OLD.rotated("e1"), lambda: Key.generate("s1", "sharing").rotated("s2")):
        with pytest.raises(ValueError, match=r"epoch must differ|not rotated"):
            wrong()


@pytest.mark.source("P4", by="features/keys/tokens.py")
def test_a_key_is_refused_for_another_purpose(tmp_path):
    shared = Key("s1", OLD.secret, OLD.cover, "sharing")
    assert shared.token("number", "a").partition(".")[2] != OLD.token("number", "a").partition(".")[2]
    for purpose in PURPOSES:
        key = Key.generate("e9", purpose)
        key.write(tmp_path / purpose)
        assert read_key(tmp_path / purpose, purpose) == key
        other = next(word for word in PURPOSES if word != purpose)
        with pytest.raises(ValueError, match=f"holds a key for {purpose}, expected one for {other}"):
            read_key(tmp_path / purpose, other)
    with pytest.raises(ValueError, match="key must be one for records"):
        Intake(shared)
    for bad in ({"cover": bytes(31)}, {"purpose": "curiosity"}):
        with pytest.raises(ValueError, match="must"):
            replace(OLD, **bad)


@pytest.mark.source("P2", by="features/keys/rotation.py")
def test_histories_continue_under_the_new_key(tmp_path):
    calls = real_bundle.calls()
    old = Intake(OLD).table(raw(calls))
    pq.write_table(old, tmp_path / "calls.parquet")
    reports = pa.table(
        {"number": old["caller"].cast(pa.string()), "known_at": old["start"], "note": ["n"] * old.num_rows}
    )
    pq.write_table(reports, tmp_path / "complaints.parquet")
    listed = [{"number": token, "business": "parcels"} for token in old["caller"].to_pylist()[:5]]
    (tmp_path / "campaigns.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in listed))
    for _ in range(2):  # the second time changes nothing
        assert tables.rekey(tmp_path, Rekeying(OLD, NEW)) == {
            "calls.parquet": len(calls), "complaints.parquet": len(calls), "campaigns.jsonl": 5}  # fmt: skip
        new = read_keyed(tmp_path / "calls.parquet")
        assert new.to_pylist() == Intake(NEW).table(raw(calls)).to_pylist()
        assert pq.read_table(tmp_path / "complaints.parquet")["number"].to_pylist() == new["caller"].to_pylist()
        rows = [json.loads(line) for line in (tmp_path / "campaigns.jsonl").read_text().splitlines()]
        assert [row["number"] for row in rows] == new["caller"].to_pylist()[:5]
        assert left_of(tmp_path, "e1") == 0 and left_of(tmp_path, "e2") == 3
    np.testing.assert_array_equal(vectors(new, threads=1), vectors(old, threads=1))


def raw(calls):
    """Calls as written, as a table."""
    names = ("caller", "callee", "outcome", "released_by", "attestation", "route")
    columns = {name: pa.array([getattr(call, name) for call in calls]) for name in names}
    columns |= {name: pa.array([getattr(call, name) for call in calls], pa.float64()) for name in ("ring", "talk")}
    start = pa.array([round(call.start * 1000) for call in calls], pa.int64()).cast(pa.timestamp("ms", "UTC"))
    return pa.table({"start": start} | columns)


def test_a_scorer_and_its_cases_continue_under_the_new_key(tmp_path, command_json, command_error, command_text):
    real_bundle.write_bundle(tmp_path / "bundle")
    OLD.write(tmp_path / "old.key")
    NEW.write(tmp_path / "new.key")
    write_key(small.KEY, tmp_path / "signing.key")
    url, stream = f"sqlite:///{tmp_path}/cases.db", events(real_bundle.calls(150))
    judge = live_states.loaded(tmp_path / "bundle", policy=AT_ONCE)
    state, whole = tmp_path / "state", tmp_path / "whole"
    live, control = (Live(judge, Intake(OLD), folder, deadline=60.0) for folder in (state, whole))
    answers = play(live, stream[:150])
    play(control, stream[:150])
    live.memory.save()
    live.add_complaint(Complaint("13900139000", "13800138000", real_bundle.START, "loans"))
    store = CaseStore(url)
    rekey = ("privacy", "key", "rekey", tmp_path / "old.key", tmp_path / "new.key", "--audit", tmp_path / "audit",
             "--signing-key", tmp_path / "signing.key", "--state", state, "--store", url)  # fmt: skip
    live.close()
    import_verdicts(store, state)
    now = round(real_bundle.START * 1000)
    cases = {store.find(flag.case, now).record.caller: flag.case for flag in answers if flag.action != "pass"}
    for case in cases.values():
        store.appeal(case, "other", "", now)
        store.decide(case, "overturned", "reviewer-1", "a courier", now)
    publish_cleared(store, state, now)
    with live_states.held_by_another_process(state):
        assert "another process serves from this folder" in command_error(*rekey)
    assert set(store.cleared_callers(now)[1]) == set(cases)
    facts = command_json(*rekey)
    assert (facts["from"], facts["to"]) == ("e1", "e2")
    assert [payload["what"] for _, payload in payloads(tmp_path / "audit", "key")] == ["keyed anew"]
    assert set(store.cleared_callers(now)[1]) == set(Rekeying(OLD, NEW).tokens(cases))
    assert {store.find(case, now).record.caller for case in cases.values()} == set(store.cleared_callers(now)[1])
    assert publish_cleared(store, state, now)
    store.close()
    cleared = WatchedClearedCallers(state / FILE)
    judge = live_states.loaded(tmp_path / "bundle", policy=AT_ONCE, cleared=cleared)
    again = Live(judge, Intake(NEW), state, deadline=60.0)
    assert (again.memory.refusal, again.memory.restored.damaged) == (None, 0)
    verdicts, expected = play(again, stream[150:]), play(control, stream[150:])
    # The number that a caller dialled last is not restored after a restart, whatever the key; all else is.
    same = sum(verdict.raw == other.raw for verdict, other in zip(verdicts, expected, strict=True))
    assert same >= len(expected) - len(real_bundle.CALLERS)
    passing = [verdict.raw for verdict in verdicts if verdict.status == "cleared"]
    assert 0 < len(passing) == cleared.spared
    assert [row["number"] for row in read_complaints(state)] == [NEW.token("number", "+8613800138000")]
    again.close()
    control.close()
    cleared.close()
    assert left_of(state, "e1") == 0
    assert "epoch e1 is now e2; entry 1 of the audit log" in command_text(*rekey)
    alone = case_store.rekey(url, None, Rekeying(OLD, NEW))  # a case store without a scorer
    assert alone.keys() == {name for name in facts["keyed"] if name.startswith("callsieve_")}
    assert not any(alone.values())


@pytest.mark.source("P2", by="training/oversight/privacy/rekey.py")
def test_a_key_is_destroyed_only_after_all_its_tokens_were_rekeyed(tmp_path, command_json, command_error, run_command):
    assert run_command("privacy", "key", "new", tmp_path / "e1.key", "--epoch", "e1")[0] == 0
    assert run_command("privacy", "key", "rotate", tmp_path / "e1.key", tmp_path / "e2.key", "--epoch", "e2")[0] == 0
    write_key(small.KEY, tmp_path / "signing.key")
    log = ("--audit", tmp_path / "audit", "--signing-key", tmp_path / "signing.key")
    data, old, new = tmp_path / "data", read_key(tmp_path / "e1.key"), read_key(tmp_path / "e2.key")
    data.mkdir()
    pq.write_table(Intake(old).table(raw(real_bundle.calls(50))), data / "calls.parquet")
    stolen = shutil.copytree(data, tmp_path / "stolen")
    destroy = ("privacy", "key", "destroy", tmp_path / "e1.key", "--why", "the epoch is over", *log, "--data", data)
    assert "1 files have tokens of epoch e1" in command_error(*destroy)
    assert read_key(tmp_path / "e1.key") == old
    assert command_json("privacy", "key", "rekey", tmp_path / "e1.key", tmp_path / "e2.key", *log, "--data", data)[
        "keyed"
    ]
    command_json(*destroy)
    assert not (tmp_path / "e1.key").exists()
    assert [payload["what"] for _, payload in payloads(tmp_path / "audit", "key")] == [
        "keyed anew", "calls keyed anew", "destroyed"]  # fmt: skip
    # An attacker with the new key and all numbers cannot assign the stolen tokens.
    numbers = [parse_in_period(text, 0).canonical for text in {*real_bundle.CALLERS, *real_bundle.CALLEES}]
    tokens = body(pq.read_table(stolen / "calls.parquet")["caller"].cast(pa.string()).to_pylist())
    assert not tokens & body(new.tokens("number", numbers))
    assert not tokens & body(replace(new, cover=None).tokens("number", numbers))
    assert tokens <= body(old.tokens("number", numbers))
    Key("e5", bytes(32)).write(tmp_path / "bare.key")
    code, _, err = run_command("privacy", "key", "destroy", tmp_path / "bare.key", "--why", "over", *log)
    assert code == 1 and "has no cover" in err and (tmp_path / "bare.key").exists()


def body(tokens):
    return {token.partition(".")[2] for token in tokens}


@pytest.mark.source("L40", "P1", by="features/keys/tokens.py")
def test_a_stolen_store_without_its_key_gives_no_number():
    """Ten thousand numbers, attacked with a sample of the number space that holds all of them.

    The whole space is larger by a factor of 1e5 and adds nothing: an attempt hits one of n tokens by chance with
    probability n / 2**128, so all 6e9 numbers under one guessed key hit one with probability 2e-25.
    """
    rng = np.random.default_rng(7)
    numbers = [f"+86138{tail:08d}" for tail in rng.choice(10**8, 10_000, replace=False)]
    key = Key.generate("e1")
    store = body(key.tokens("number", numbers))
    plain = {hashlib.sha256(number.encode()).digest()[:16].hex().translate(LETTERS) for number in numbers}
    space = {*numbers, *(f"+86139{tail:08d}" for tail in range(20_000))}

    def attack(of, hidden):
        return len(hidden & {of(number) for number in space})

    def guess(secret, cover=None, use="number"):
        wrong = Key("e1", secret, cover)
        return lambda number: wrong.token(use, number).partition(".")[2]

    attempts = {
        "hash": lambda number: hashlib.sha256(number.encode()).digest()[:16].hex().translate(LETTERS),
        "hash with its use": lambda number: hashlib.sha256(b"number\0" + number.encode()).digest()[:16].hex().translate(
            LETTERS),
        "key of zeros": guess(bytes(32)),
        "keys of zeros": guess(bytes(32), bytes(32)),
        "its epoch as key": guess(b"e1".ljust(32, b"\0")),
    }  # fmt: skip
    assert {name: attack(of, store) for name, of in attempts.items()} == dict.fromkeys(attempts, 0)
    # The attack works: it inverts plain hashes, and tokens whose key it has.
    assert attack(attempts["hash"], plain) == len(numbers)
    assert attack(guess(key.secret, key.cover), store) == len(numbers)
    # Half of a key gives no number: the secret without the cover, or the cover without the secret.
    assert attack(guess(key.secret), store) == attack(guess(bytes(32), key.cover), store) == 0
