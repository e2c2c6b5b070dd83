"""The list of discredited firms: an entry waits for an appeal, acts on principals and agents, and ends on appeal."""

import json

import numpy as np
import pytest

from callsieve.features.files.dates import DAY
from callsieve.serving.lists.discredited import list_firm, unlist_firm
from callsieve.serving.rules.register_join import RegisterJoin
from callsieve.serving.rules.register_lookup import Terms, look_up
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_input import RuleInput
from callsieve.serving.rules.rules import RULE_BY_NAME
from callsieve.training.oversight.log.audit_log import payloads
from tests.support import real_bundle
from tests.support import small_bundle as small
from tests.support.calls import strategies
from tests.support.keys import write_key

NOW = 1_772_500_000_000
CALLER = real_bundle.NUMBER_KEY.token("number", "1")


def discredited(folder, at, **campaign):
    """The fact of a call at a moment, online and by the join, which must agree."""
    campaigns = real_bundle.make_registers(campaigns=[{"number": CALLER, "business": "loans", **campaign}])
    registers = Registers(dict(campaigns.columns) | dict(Registers.read(folder).columns))
    call = strategies.EXAMPLE_CALL | {"caller": CALLER, "start": at}
    online = look_up(registers, strategies.as_keyed_call(call), Terms())
    offline = RegisterJoin(registers, Terms()).registered(strategies.as_keyed_table([call]))
    assert np.asarray(offline.discredited).tolist() == [online.discredited]
    return online.discredited


@pytest.mark.source("L12", "L23", by="serving/lists/discredited.py")
def test_an_entry_takes_effect_after_the_time_for_an_appeal_and_ends_with_one(tmp_path):
    list_firm(tmp_path, "某外呼公司", "agent", "complaints", NOW)
    by_agent = {"principal": "bank", "agent": "某外呼公司"}
    assert discredited(tmp_path, NOW + 9 * DAY, **by_agent) == 0
    assert discredited(tmp_path, NOW + 11 * DAY, **by_agent) == 1
    assert discredited(tmp_path, NOW + 11 * DAY, principal="某外呼公司") == 0, "listed as agent only"
    assert discredited(tmp_path, NOW + 11 * DAY, principal="bank", agent="other") == 0
    list_firm(tmp_path, "bank", "principal", "complaints", NOW, days=1)
    assert discredited(tmp_path, NOW + 2 * DAY, **by_agent) == 1
    with pytest.raises(ValueError, match="is listed as principal already"):
        list_firm(tmp_path, "bank", "principal", "again", NOW)
    unlist_firm(tmp_path, "bank", "principal", NOW + 3 * DAY)
    assert discredited(tmp_path, NOW + 2 * DAY, **by_agent) == 1, "a past verdict must stay as it was"
    assert discredited(tmp_path, NOW + 4 * DAY, **by_agent) == 0
    unlist_firm(tmp_path, "某外呼公司", "agent", NOW + 5 * DAY)
    assert discredited(tmp_path, NOW + 20 * DAY, **by_agent) == 0, "the appeal came before the entry took effect"
    assert RULE_BY_NAME["discredited_firm"].when(RuleInput(discredited=1.0), None)


@pytest.mark.parametrize(
    ("party", "role", "reason", "message"),
    [
        ("", "agent", "why", "PARTY: expected"),
        ("firm 13800138000", "agent", "why", "PARTY: expected"),
        ("firm", "agent", "", "--why: expected"),
        ("firm", "owner", "why", "ROLE: expected one of principal, agent"),
    ],
)
def test_an_invalid_entry_is_refused(tmp_path, party, role, reason, message):
    with pytest.raises(ValueError, match=message):
        list_firm(tmp_path, party, role, reason, NOW)
    assert not list(tmp_path.iterdir())


def test_the_commands_print_the_notice_and_enter_the_audit_log(command_error, run_command, tmp_path):
    write_key(small.KEY, tmp_path / "log.key")
    common = ("principal", "--registers", tmp_path, "--audit", tmp_path / "audit", "--signing-key")
    words = ("某银行", *common, tmp_path / "log.key")
    code, out, _ = run_command("govern", "discredited", "add", *words, "--why", "投诉集中", "--json")
    facts = json.loads(out)
    assert code == 0 and "某银行" in facts["zh"] and facts["valid_from"] in facts["zh"] and facts["entry"] == 0
    assert run_command("govern", "discredited", "appeal", *words, "--why", "申诉成立")[0] == 0
    assert [payload["what"] for _, payload in payloads(tmp_path / "audit", "policy")] == [
        "listed as discredited", "appeal upheld, not discredited",
    ]  # fmt: skip
    assert "is not listed as principal" in command_error("govern", "discredited", "appeal", *words, "--why", "again")
