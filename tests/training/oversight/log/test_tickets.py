"""Tickets: acts on personal data, and refusals of such acts, enter the audit log."""

import pytest
from msgspec import structs

from callsieve.training.oversight.governance.compliance import AuditScope, report
from callsieve.training.oversight.log.audit_log import SignedLog, append, erase, log_id, payloads
from callsieve.training.oversight.log.tickets import (
    EXPORT,
    REIDENTIFY,
    AccessControl,
    Act,
    refusals_entered,
    sign_ticket,
)
from tests.support import small_bundle as small
from tests.support.trainings import recorded_run


@pytest.mark.source("L41", by="training/oversight/log/tickets.py")
def test_acts_and_refusals_are_in_the_log_with_person_and_purpose(tmp_path):
    log = SignedLog(tmp_path / "audit", small.KEY)
    control = AccessControl(log, recorded_run.gates())
    act = Act(REIDENTIFY, "a" * 64, 3, "curiosity", "clerk")
    with pytest.raises(ValueError, match="got 0"):
        control.enter(act)
    with (
        pytest.raises(ValueError, match="not for export"),
        refusals_entered(log, Act(EXPORT, "", 0, "a friend asks", "clerk")),
    ):
        raise ValueError("calls: declared for training, not for export")
    assert control.enter(Act(EXPORT, "b" * 64, 20, "a sample", "risk")) == 2
    refused, other, accepted = (payload for _, payload in payloads(log.folder, "access"))
    logged = [refused[name] for name in ("person", "act", "purpose", "count")]
    assert logged == ["clerk", REIDENTIFY, "curiosity", 3]
    assert "got 0" in refused["refused"] and other["refused"] == "calls: declared for training, not for export"
    assert accepted["person"] == "risk" and "refused" not in accepted


@pytest.fixture
def calls(tmp_path):
    (tmp_path / "calls").mkdir()
    return tmp_path / "calls"


@pytest.mark.source("L29", "P13", by="training/oversight/log/tickets.py")
def test_erased_accesses_still_count(tmp_path):
    """Six exports of 80 and no seventh, whatever is erased; a used ticket stays used."""
    log = SignedLog(tmp_path / "audit", small.KEY)
    export = lambda: AccessControl(log, recorded_run.gates()).enter(Act(EXPORT, "a" * 64, 80, "a sample", "clerk"))
    entries = [export() for _ in range(6)]
    large = Act(EXPORT, "b" * 64, 2417, "court order", "clerk")
    sign_ticket(large, recorded_run.APPROVERS[0], tmp_path / "ticket.json")
    with_ticket = AccessControl(log, recorded_run.gates(), [tmp_path / "ticket.json"])
    entries.append(with_ticket.enter(large))
    for entry in entries:
        erase(log.folder, entry, "the clerk asked for it", small.KEY)
    with pytest.raises(ValueError, match="expected 1 tickets"):
        export()
    with pytest.raises(ValueError, match="used already"):
        with_ticket.enter(large)
    payload_bytes = b"".join(
        path.read_bytes() for path in (log.folder / "payloads").iterdir() if int(path.stem) in range(7, 14)
    )
    assert b"sample" not in payload_bytes and b"court order" not in payload_bytes
    assert b'"by":"risk"' not in payload_bytes
    facts = report(AuditScope((), log.folder, (), None))["given_beside"]
    assert [access["count"] for access in facts] == [80] * 6 + [2417] and facts[0]["person"] == "erased"


@pytest.mark.source("L29", "P13", by="training/oversight/log/tickets.py")
def test_limits_and_tickets_hold_in_another_audit_log(tmp_path, calls):
    def control(name, *tickets):
        append(tmp_path / name, "policy", {"what": f"log {name}"}, small.KEY)
        return AccessControl(SignedLog(tmp_path / name, small.KEY), recorded_run.gates(), tickets)

    few, large = Act(EXPORT, "a" * 64, 300, "a sample", "clerk"), Act(EXPORT, "b" * 64, 2417, "court order", "clerk")
    sign_ticket(large, recorded_run.APPROVERS[0], tmp_path / "ticket.json")
    control("one").enter(few, str(calls))
    control("one", tmp_path / "ticket.json").enter(large, str(calls))
    with pytest.raises(ValueError, match="expected 1 tickets"):
        control("two").enter(few, str(calls))
    with pytest.raises(ValueError, match="used already"):
        control("two", tmp_path / "ticket.json").enter(large, str(calls))
    control("two").enter(Act(EXPORT, "a" * 64, 199, "a sample", "clerk"), str(calls))
    assert b"clerk" not in (calls / "accesses.jsonl").read_bytes()


@pytest.mark.source("L29", "P9", by="training/oversight/log/tickets.py")
def test_a_reidentification_enters_the_log_that_its_tickets_name_and_no_other(tmp_path):
    logs = [SignedLog(tmp_path / name, small.KEY) for name in ("own", "other", "fresh")]
    for log in logs[:2]:
        log.append("policy", {"what": log.folder.name})
    act = Act(REIDENTIFY, "a" * 64, 1, "court order", "me", log_id(logs[0].folder))
    tickets = [tmp_path / f"{place}.json" for place in range(2)]
    for path, key in zip(tickets, recorded_run.APPROVERS, strict=False):
        sign_ticket(act, key, path)
    attempt = lambda log, act: AccessControl(log, recorded_run.gates(), tickets).enter(act)
    assert attempt(logs[0], act) == 1
    with pytest.raises(ValueError, match="used already"):
        attempt(logs[0], act)
    for log in logs[1:]:
        with pytest.raises(ValueError, match="for another audit log"):
            attempt(log, act)
        with pytest.raises(ValueError, match="log must be"):
            attempt(log, structs.replace(act, log=log_id(log.folder)))  # as if the request had named this log
