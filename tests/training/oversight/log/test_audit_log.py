"""The audit log: `verify` names every edit at its exact entry."""

import json
import multiprocessing
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callsieve.training.oversight.audit.anchors import Anchors
from callsieve.training.oversight.audit.verify import verify
from callsieve.training.oversight.log import audit_log
from callsieve.training.oversight.log.audit_log import (
    HEAD,
    LOG,
    PAYLOADS,
    append,
    erase,
    note,
    payload_path,
    payloads,
    proof,
    read,
)
from callsieve.training.oversight.log.entry import encode
from callsieve.training.oversight.log.merkle import consistent, includes
from tests.support import small_bundle as small
from tests.support.errors import raising

ENTRIES = 9


def write(folder, count=ENTRIES, key=small.KEY):
    for i in range(count):
        append(folder, "access", {"what": f"calls of case {i}", "why": "appeal"}, key)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write(tmp_path_factory.mktemp("log"))


@pytest.fixture
def log(original, tmp_path):
    return shutil.copytree(original, tmp_path / "log")


def lines(folder):
    return (folder / LOG).read_bytes().splitlines(keepends=True)


def write_lines(folder, entry_lines):
    (folder / LOG).write_bytes(b"".join(entry_lines))


def places(folder, **how):
    """Returns the places of the faults, in order."""
    return [fault.where for fault in verify(folder, anchors=Anchors(**how)).faults]


def messages(folder, **how):
    return {fault.where: fault.what for fault in verify(folder, anchors=Anchors(**how)).faults}


def test_an_unedited_log_has_no_faults(log):
    verification = verify(log)
    assert (verification.entries, verification.faults, verification.erased) == (ENTRIES, (), ())
    assert [payload["what"] for _, payload in payloads(log, "access")] == [f"calls of case {i}" for i in range(ENTRIES)]
    assert [entry.index for entry in read(log)] == list(range(ENTRIES))
    assert append(log, "policy", {"what": "policy 2"}, small.KEY) == ENTRIES
    assert verify(log).faults == ()


@pytest.mark.system
@pytest.mark.source("L32", by="training/oversight/log/audit_log.py")
@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_is_a_fault_of_its_entry(original, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("bytes")
    log = shutil.copytree(original, folder / "log")
    old = lines(log)
    index = data.draw(st.integers(0, ENTRIES - 1))
    line = bytearray(old[index])
    at = data.draw(st.integers(0, len(line) - 2))
    line[at] ^= data.draw(st.integers(1, 255))
    write_lines(log, [*old[:index], bytes(line), *old[index + 1 :]])
    if line.count(b"\n") > 1:  # one line became two lines, and neither is an entry
        assert f"entry {index}" in places(log)
    else:
        assert set(places(log)) == {f"entry {index}"}
    shutil.rmtree(folder)


@given(st.sets(st.integers(0, ENTRIES - 1), min_size=1))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_exactly_the_removed_entries_are_missing(original, tmp_path_factory, removed):
    folder = tmp_path_factory.mktemp("removed")
    log = shutil.copytree(original, folder / "log")
    write_lines(log, [line for i, line in enumerate(lines(log)) if i not in removed])
    missing = {fault.where for fault in verify(log).faults if fault.what.startswith("missing")}
    assert missing == {f"entry {i}" for i in removed}
    shutil.rmtree(folder)


def test_entries_cut_from_the_end_are_named(log):
    write_lines(log, lines(log)[:-2])
    for index in (ENTRIES - 2, ENTRIES - 1):
        assert messages(log)[f"entry {index}"] == "missing: the log was cut short"
    with pytest.raises(ValueError, match=r"the log was cut short, 9 entries are signed"):
        append(log, "access", {}, small.KEY)


def test_a_missing_head_is_named(log):
    (log / HEAD).unlink()
    assert places(log) == [HEAD]
    (log / HEAD).write_bytes(b"{}")
    assert messages(log)[HEAD].startswith("not a signed head")
    (log / HEAD).write_bytes(b"head")
    assert "expected JSON, " in messages(log)[HEAD]


def test_erasure_keeps_the_chain(log):
    before = verify(log).root
    copy = payload_path(log, 3).read_bytes()
    assert erase(log, 3, "the person asked for it", small.KEY) == ENTRIES
    verification = verify(log)
    assert (verification.faults, verification.erased, verification.entries) == ((), (3,), ENTRIES + 1)
    assert verification.root != before
    data = b"".join(path.read_bytes() for path in log.rglob("*") if path.is_file())
    assert b"case 3" not in data and b"case 4" in data
    with pytest.raises(ValueError, match="entry 3: expected an entry with a payload"):
        erase(log, 3, "again", small.KEY)
    with pytest.raises(ValueError, match="it must stay"):
        erase(log, ENTRIES, "hide it", small.KEY)
    payload_path(log, 3).write_bytes(copy)  # from a backup
    assert messages(log) == {"entry 3": "its payload exists, though an entry records its erasure"}


def test_equal_payloads_have_different_commitments(tmp_path):
    """Otherwise an erased payload could be guessed."""
    for _ in range(2):
        append(tmp_path, "access", {"what": "the same"}, small.KEY)
    first, second = read(tmp_path)
    assert first.commitment != second.commitment


@pytest.mark.parametrize("part", [b"{", b'{"at":"2026', b"\xff"])
def test_a_partial_line_after_a_crash_is_no_entry(log, part):
    with (log / LOG).open("ab") as file:
        file.write(part)
    assert messages(log)[f"entry {ENTRIES}"].startswith("an incomplete line")
    assert append(log, "access", {}, small.KEY) == ENTRIES
    assert verify(log).faults == () and part + b"\n" not in lines(log)


def test_a_crash_before_the_head_was_written_loses_nothing(log):
    old = (log / HEAD).read_bytes()
    append(log, "access", {}, small.KEY)
    (log / HEAD).write_bytes(old)
    assert verify(log).faults == ()
    assert append(log, "access", {}, small.KEY) == ENTRIES + 1
    assert verify(log).faults == ()


def test_an_edited_log_accepts_no_entry(log):
    first, *others = lines(log)
    write_lines(log, [encode(json.loads(first) | {"kind": "policy"}) + b"\n", *others])
    with pytest.raises(ValueError, match="the log was changed; see callsieve audit verify"):
        append(log, "access", {}, small.KEY)
    with pytest.raises(ValueError, match="kind must be one of"):
        append(log, "gossip", {}, small.KEY)


def test_a_failed_write_leaves_no_part_of_a_line(log, monkeypatch):
    before = lines(log)
    with monkeypatch.context() as patched:
        patched.setattr(audit_log, "write_atomic", lambda *_: None)  # the payload is written
        patched.setattr(audit_log.os, "fsync", raising(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            append(log, "access", {}, small.KEY)
    assert lines(log) == before
    assert verify(log).faults == ()


def test_a_line_in_another_form_is_refused(log):
    first, *others = lines(log)
    write_lines(log, [first.replace(b'"kind":', b'"kind" :'), *others])
    with pytest.raises(ValueError, match=r"line 1: .*the form in which it was written"):
        read(log)
    assert places(log)[0] == "entry 0"


def test_concurrent_writers_make_one_log(tmp_path):
    processes = multiprocessing.get_context("fork")
    append(tmp_path, "access", {"what": "first"}, small.KEY)
    writers = [processes.Process(target=write, args=(tmp_path, 10)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    verification = verify(tmp_path)
    assert (verification.entries, verification.faults) == (31, ())


def test_the_file_of_a_killed_writer_is_named_and_the_next_entry_removes_it(log, monkeypatch):
    for step in ("replace", "unlink"):  # a killed process removes no file
        monkeypatch.setattr(f"pathlib.Path.{step}", raising(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        append(log, "access", {"what": "torn"}, small.KEY)
    monkeypatch.undo()
    (place,) = places(log)
    assert place.startswith(f"{PAYLOADS}/.{ENTRIES:06d}.json.")
    assert append(log, "access", {"what": "next"}, small.KEY) == ENTRIES
    assert places(log) == []


def test_a_log_that_grows_during_verification_has_no_faults(tmp_path):
    append(tmp_path, "access", {"what": "first"}, small.KEY)
    writer = multiprocessing.get_context("fork").Process(target=write, args=(tmp_path, 30))
    writer.start()
    faults = [verify(tmp_path).faults]
    while writer.is_alive():
        faults.append(verify(tmp_path).faults)
    writer.join()
    assert writer.exitcode == 0 and set(faults) == {()} and len(faults) > 1


def test_a_proof_can_be_checked_without_the_log(log):
    old = json.loads((log / HEAD).read_bytes())
    append(log, "access", {}, small.KEY)
    facts = proof(log, 4, since=old["size"])
    head = facts["head"]
    steps = {name: [bytes.fromhex(step) for step in facts[name]] for name in ("inclusion", "consistency")}
    whole = bytes.fromhex(head["root"])
    assert includes(bytes.fromhex(facts["leaf"]), 4, head["size"], steps["inclusion"], whole)
    assert consistent(old["size"], bytes.fromhex(old["root"]), head["size"], whole, steps["consistency"])
    assert not includes(bytes.fromhex(facts["leaf"]), 5, head["size"], steps["inclusion"], whole)


def test_a_note_of_a_policy_has_its_text(log, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text('version = "2"\n')
    entry = note(log, "policy", "block from band certified", "decision of the board", policy, small.KEY)
    assert next(payloads(log, "policy"))[1]["text"] == 'version = "2"\n'
    assert verify(log).faults == () and entry == ENTRIES
