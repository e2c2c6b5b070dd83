"""Tickets: acts on personal data, and refusals of such acts, enter the audit log."""

import pytest

from callsieve.training.oversight.log.audit_log import SignedLog, payloads
from callsieve.training.oversight.log.tickets import EXPORT, REIDENTIFY, AccessControl, Act, refusals_entered
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
