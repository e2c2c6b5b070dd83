"""The audit log: whatever is done to it behind its back is named at its exact entry."""

import json
import multiprocessing
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callsieve.serving.bundle.signing import read_public_key
from callsieve.training.audit.verify import verify
from callsieve.training.log import audit_log
from callsieve.training.log.audit_log import (
    HEAD,
    LOG,
    PAYLOADS,
    PUBLIC_KEY,
    append,
    encode,
    erase,
    note,
    payload_path,
    payloads,
    proof,
    read,
)
from callsieve.training.log.merkle import consistent, includes
from tests.support import small_bundle as small

ENTRIES = 9


def write(folder, count=ENTRIES):
    for i in range(count):
        append(folder, "access", {"what": f"calls of case {i}", "why": "appeal"}, small.KEY)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write(tmp_path_factory.mktemp("log"))


@pytest.fixture
def log(original, tmp_path):
    return shutil.copytree(original, tmp_path / "log")


def lines(folder):
    return (folder / LOG).read_bytes().splitlines(keepends=True)


def put(folder, kept):
    (folder / LOG).write_bytes(b"".join(kept))


def places(folder, **how):
    """Where verify finds faults."""
    return [fault.where for fault in verify(folder, **how).faults]


def whats(folder, **how):
    return {fault.where: fault.what for fault in verify(folder, **how).faults}


def test_a_log_that_nobody_touched_is_sound(log):
    found = verify(log)
    assert (found.entries, found.faults, found.erased) == (ENTRIES, (), ())
    assert [told["what"] for _, told in payloads(log, "access")] == [f"calls of case {i}" for i in range(ENTRIES)]
    assert [entry.index for entry in read(log)] == list(range(ENTRIES))
    assert append(log, "policy", {"what": "policy 2"}, small.KEY) == ENTRIES
    assert verify(log).faults == ()


@pytest.mark.parametrize("field", ["at", "kind", "commitment", "index"])
def test_an_edited_field_is_named(log, field):
    kept = lines(log)
    told = json.loads(kept[3])
    told[field] = {"at": "2020-01-01T00:00:00Z", "kind": "policy", "commitment": "0" * 64, "index": 7}[field]
    put(log, [*kept[:3], encode(told) + b"\n", *kept[4:]])
    assert set(places(log)) == {"entry 3"}


@pytest.mark.source("L32", by="training/log/audit_log.py")
@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_is_found_in_its_entry(original, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("bytes")
    log = shutil.copytree(original, folder / "log")
    kept = lines(log)
    index = data.draw(st.integers(0, ENTRIES - 1))
    line = bytearray(kept[index])
    at = data.draw(st.integers(0, len(line) - 2))
    line[at] ^= data.draw(st.integers(1, 255))
    put(log, [*kept[:index], bytes(line), *kept[index + 1 :]])
    if line.count(b"\n") > 1:  # one line became two, each of them no entry
        assert f"entry {index}" in places(log)
    else:
        assert set(places(log)) == {f"entry {index}"}
    shutil.rmtree(folder)


@given(st.sets(st.integers(0, ENTRIES - 1), min_size=1))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_exactly_the_removed_entries_are_missing(original, tmp_path_factory, gone):
    folder = tmp_path_factory.mktemp("removed")
    log = shutil.copytree(original, folder / "log")
    put(log, [line for i, line in enumerate(lines(log)) if i not in gone])
    found = {fault.where for fault in verify(log).faults if fault.what.startswith("missing")}
    assert found == {f"entry {i}" for i in gone}
    shutil.rmtree(folder)


def test_what_was_cut_off_is_named_as_cut_off(log):
    put(log, lines(log)[:-2])
    for index in (ENTRIES - 2, ENTRIES - 1):
        assert whats(log)[f"entry {index}"] == "missing: the log was cut short"
    with pytest.raises(ValueError, match=r"the log was cut short, 9 entries are signed"):
        append(log, "access", {}, small.KEY)


def test_a_log_cut_with_its_head_is_shown_by_a_head_kept_elsewhere(log, tmp_path):
    elsewhere = tmp_path / "kept.json"
    shutil.copy(log / HEAD, elsewhere)
    shorter = write(tmp_path / "shorter", 1)
    put(log, lines(log)[:-1])
    (log / HEAD).write_bytes(encode(json.loads(lines(log)[-1])["head"]))
    payload_path(log, ENTRIES - 1).unlink()
    assert verify(log).faults == ()  # nothing in the folder can show it
    assert whats(log, heads=[elsewhere]) == {f"entry {ENTRIES - 1}": "missing: the log was cut short"}
    # Nor does a log that was rewritten, with the same key, pass for the old one.
    for i in range(ENTRIES):
        append(shorter, "access", {"what": f"another {i}"}, small.KEY)
    assert "the log was rewritten" in whats(shorter, heads=[elsewhere])["kept.json"]


def test_a_missing_head_is_named(log):
    (log / HEAD).unlink()
    assert places(log) == [HEAD]
    (log / HEAD).write_bytes(b"{}")
    assert whats(log)[HEAD].startswith("not a signed head")


@pytest.mark.parametrize(("first", "second"), [(0, 1), (2, 5), (7, 8)])
def test_reordered_entries_are_named(log, first, second):
    kept = lines(log)
    kept[first], kept[second] = kept[second], kept[first]
    put(log, kept)
    found = whats(log)
    assert all(what.startswith("reordered: it follows entry") for what in found.values())
    # All that now stand after a later one: those between, and the earlier of the two.
    assert set(found) == {f"entry {i}" for i in range(first, second)}


def test_an_entry_told_twice_is_named(log):
    kept = lines(log)
    put(log, [*kept, kept[4]])
    assert whats(log) == {"entry 4": "occurs twice"}


def test_an_entry_of_another_key_is_named(log, tmp_path):
    other = tmp_path / "other"
    for i in range(ENTRIES):
        append(other, "access", {"what": f"calls of case {i}", "why": "appeal"}, small.OTHER_KEY)
    kept, strange = lines(log), lines(other)
    put(log, [*kept[:4], strange[4], *kept[5:]])
    assert "not trusted" in whats(log)["entry 4"]
    # A whole log of another key, with its own log.pub, stands only until somebody says whose key it must be.
    assert verify(other).faults == ()
    assert places(other, trust=log / PUBLIC_KEY)[:ENTRIES] == [f"entry {i}" for i in range(ENTRIES)]
    with pytest.raises(ValueError, match=r"the log is signed by key [0-9a-f]{16}, got"):
        append(log, "access", {}, small.OTHER_KEY)


def test_two_logs_of_one_key_cannot_be_joined(original, tmp_path):
    other = write(tmp_path / "other")
    put(other, [*lines(original)[:4], *lines(other)[4:]])
    for i in range(4):
        shutil.copy(payload_path(original, i), payload_path(other, i))
    assert whats(other)["entry 4"] == "its signed root differs from the root of the entries up to it"


def test_edited_payloads_are_named(log):
    path = payload_path(log, 2)
    told = json.loads(path.read_text())
    told["payload"]["why"] = "curiosity"
    path.write_bytes(encode(told))
    payload_path(log, 5).write_text("no JSON")
    payload_path(log, 6).unlink()
    payload_path(log, 40).write_bytes(path.read_bytes())
    found = whats(log)
    assert found["entry 2"] == "its payload was edited: it does not fit the commitment"
    assert found["entry 5"].startswith("its payload was edited")
    assert found["entry 6"] == "its payload is missing, and no entry says that it was erased"
    assert found[f"{PAYLOADS}/000040.json"] == "belongs to no entry"
    assert len(found) == 4


def test_each_payload_is_missed_where_all_are_gone(log):
    shutil.rmtree(log / PAYLOADS)
    assert places(log) == [f"entry {i}" for i in range(ENTRIES)]


def test_erasure_keeps_the_chain(log):
    before = verify(log).root
    copy = payload_path(log, 3).read_bytes()
    assert erase(log, 3, "the person asked for it", small.KEY) == ENTRIES
    found = verify(log)
    assert (found.faults, found.erased, found.entries) == ((), (3,), ENTRIES + 1)
    assert found.root != before
    left = b"".join(path.read_bytes() for path in log.rglob("*") if path.is_file())
    assert b"case 3" not in left and b"case 4" in left
    with pytest.raises(ValueError, match="entry 3: expected an entry with a payload"):
        erase(log, 3, "again", small.KEY)
    with pytest.raises(ValueError, match="it must stay"):
        erase(log, ENTRIES, "hide it", small.KEY)
    payload_path(log, 3).write_bytes(copy)  # from a backup
    assert whats(log) == {"entry 3": "its payload exists, though an entry says that it was erased"}


def test_equal_payloads_have_unlike_commitments(tmp_path):
    """Otherwise an erased payload could be guessed."""
    for _ in range(2):
        append(tmp_path, "access", {"what": "the same"}, small.KEY)
    first, second = read(tmp_path)
    assert first.commitment != second.commitment


@pytest.mark.parametrize("torn", [b"{", b'{"at":"2026', b"\xff"])
def test_what_a_crash_left_of_a_line_is_no_entry(log, torn):
    with (log / LOG).open("ab") as file:
        file.write(torn)
    assert verify(log).faults == ()
    assert append(log, "access", {}, small.KEY) == ENTRIES
    assert verify(log).faults == () and torn + b"\n" not in lines(log)


def test_a_crash_before_the_head_was_written_loses_nothing(log):
    old = (log / HEAD).read_bytes()
    append(log, "access", {}, small.KEY)
    (log / HEAD).write_bytes(old)
    assert verify(log).faults == ()
    assert append(log, "access", {}, small.KEY) == ENTRIES + 1
    assert verify(log).faults == ()


def test_a_changed_log_is_not_added_to(log):
    kept = lines(log)
    told = json.loads(kept[0]) | {"kind": "policy"}
    put(log, [encode(told) + b"\n", *kept[1:]])
    with pytest.raises(ValueError, match="the log was changed; see callsieve audit verify"):
        append(log, "access", {}, small.KEY)
    with pytest.raises(ValueError, match="kind must be one of"):
        append(log, "gossip", {}, small.KEY)


def test_a_disk_that_refuses_a_line_leaves_none_of_it(log, monkeypatch):
    def refuses(_file):
        raise OSError(28, "No space left on device")

    before = lines(log)
    with monkeypatch.context() as patched:
        patched.setattr(audit_log, "write_atomic", lambda *_: None)  # the payload found room
        patched.setattr(audit_log.os, "fsync", refuses)
        with pytest.raises(OSError, match="No space"):
            append(log, "access", {}, small.KEY)
    assert lines(log) == before
    assert verify(log).faults == ()


def test_a_line_has_one_form(log):
    kept = lines(log)
    put(log, [kept[0].replace(b'"kind":', b'"kind" :'), *kept[1:]])
    with pytest.raises(ValueError, match=r"line 1: .*the form in which it was written"):
        read(log)
    assert places(log)[0] == "entry 0"


def add(folder, count):
    for i in range(count):
        append(folder, "access", {"what": i}, small.KEY)


def test_several_writers_make_one_log(tmp_path):
    spawn = multiprocessing.get_context("fork")
    append(tmp_path, "access", {"what": "first"}, small.KEY)
    writers = [spawn.Process(target=add, args=(tmp_path, 10)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    found = verify(tmp_path)
    assert (found.entries, found.faults) == (31, ())


def test_what_a_killed_writer_left_is_named_and_goes_with_the_next_entry(log, monkeypatch):
    def killed(*_given, **_named):
        raise KeyboardInterrupt

    for step in ("replace", "unlink"):  # nothing is cleared up by whoever is killed
        monkeypatch.setattr(f"pathlib.Path.{step}", killed)
    with pytest.raises(KeyboardInterrupt):
        append(log, "access", {"what": "torn"}, small.KEY)
    monkeypatch.undo()
    (place,) = places(log)
    assert place.startswith(f"{PAYLOADS}/.{ENTRIES:06d}.json.")
    assert append(log, "access", {"what": "next"}, small.KEY) == ENTRIES
    assert places(log) == []


def test_a_log_that_grows_while_it_is_verified_is_sound(tmp_path):
    append(tmp_path, "access", {"what": "first"}, small.KEY)
    writer = multiprocessing.get_context("fork").Process(target=add, args=(tmp_path, 30))
    writer.start()
    found = [verify(tmp_path).faults]
    while writer.is_alive():
        found.append(verify(tmp_path).faults)
    writer.join()
    assert writer.exitcode == 0 and set(found) == {()} and len(found) > 1


def test_proofs_need_no_log(log):
    old = json.loads((log / HEAD).read_bytes())
    append(log, "access", {}, small.KEY)
    told = proof(log, 4, since=old["size"])
    head = told["head"]
    steps = {name: [bytes.fromhex(step) for step in told[name]] for name in ("inclusion", "consistency")}
    whole = bytes.fromhex(head["root"])
    assert includes(bytes.fromhex(told["leaf"]), 4, head["size"], steps["inclusion"], whole)
    assert consistent(old["size"], bytes.fromhex(old["root"]), head["size"], whole, steps["consistency"])
    assert not includes(bytes.fromhex(told["leaf"]), 5, head["size"], steps["inclusion"], whole)


def test_a_policy_is_noted_with_its_text(log, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text('version = "2"\n')
    entry = note(log, "policy", "block from band certified", "decision of the board", policy, small.KEY)
    assert next(payloads(log, "policy"))[1]["text"] == 'version = "2"\n'
    assert verify(log).faults == () and entry == ENTRIES


def test_there_must_be_a_log(tmp_path):
    with pytest.raises(ValueError, match="expected an audit log"):
        verify(tmp_path)


def test_the_key_is_kept_beside_the_log(log):
    assert read_public_key(log / PUBLIC_KEY).public_bytes_raw() == small.KEY.public_key().public_bytes_raw()


def test_an_erased_payload_is_passed_over_and_its_entry_still_proven(log):
    erase(log, 3, "asked for", small.KEY)
    assert [entry.index for entry, _ in payloads(log, "access")] == [i for i in range(ENTRIES) if i != 3]
    told = proof(log, 3)
    assert "consistency" not in told
    steps = [bytes.fromhex(step) for step in told["inclusion"]]
    head = told["head"]
    assert includes(bytes.fromhex(told["leaf"]), 3, head["size"], steps, bytes.fromhex(head["root"]))
