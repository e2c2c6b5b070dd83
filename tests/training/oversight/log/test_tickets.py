"""Tickets: acts on personal data, and refusals of such acts, enter the audit log."""

import pytest

from callsieve.training.oversight.log.audit_log import payloads
from callsieve.training.oversight.log.tickets import EXPORT, REIDENTIFY, Act, enter_act, refusals_entered
from tests.support import recorded_run
from tests.support import small_bundle as small


@pytest.mark.source("L41", by="training/oversight/log/tickets.py")
def test_acts_and_refusals_are_in_the_log_with_person_and_purpose(tmp_path):
    log = tmp_path / "audit"
    act = Act(REIDENTIFY, "a" * 64, 3, "curiosity", "clerk")
    with pytest.raises(ValueError, match="got 0"):
        enter_act(log, act, [], recorded_run.gates(), small.KEY)
    with (
        pytest.raises(ValueError, match="not for export"),
        refusals_entered(log, Act(EXPORT, "", 0, "a friend asks", "clerk"), small.KEY),
    ):
        raise ValueError("calls: declared for training, not for export")
    assert enter_act(log, Act(EXPORT, "b" * 64, 20, "a sample", "risk"), [], recorded_run.gates(), small.KEY) == 2
    refused, other, accepted = (payload for _, payload in payloads(log, "access"))
    logged = [refused[name] for name in ("person", "act", "purpose", "count")]
    assert logged == ["clerk", REIDENTIFY, "curiosity", 3]
    assert "got 0" in refused["refused"] and other["refused"] == "calls: declared for training, not for export"
    assert accepted["person"] == "risk" and "refused" not in accepted
