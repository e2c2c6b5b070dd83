"""The limits that are shipped: smallest cells, number classes to register, fields of a declaration."""

import inspect
import json

import numpy as np
import pytest

from callsieve.features.records import NUMBER_CLASSES
from callsieve.serving.custody.purposes import declare, require_purpose
from callsieve.serving.rules.policy import PROFILES, read_policy
from callsieve.serving.rules.rule_input import RuleInput
from callsieve.serving.rules.rules import matching_rules
from callsieve.training.oversight.governance import report
from callsieve.training.oversight.governance.disclosure import Cell, Partition, protect


@pytest.mark.source("P10", by="training/oversight/governance/disclosure.py")
@pytest.mark.parametrize(("callees", "callers", "count"), [(10, 5, 10), (9, 5, None), (10, 4, None), (12, 6, 10)])
def test_ten_callees_and_five_callers_stand_behind_a_count_that_is_a_multiple_of_five(callees, callers, count):
    calls = np.arange(callees)
    people = {"callee": calls, "caller": calls % callers}
    cell = Cell("a period", "all", "all")
    shown = protect([Partition(calls * 0, [cell])], people)
    assert (shown[cell].records if cell in shown else None) == count
    limits = inspect.signature(report.write_report).parameters["least"].default
    assert limits == {"callee": 10, "caller": 5}


@pytest.mark.source("P10", by="training/cli/govern_commands.py")
def test_the_command_has_the_same_limits(run_command, tmp_path, monkeypatch):
    limits = []

    def seen(*_, least, **__):
        limits.append(least)
        raise ValueError("seen")

    monkeypatch.setattr(report, "write_report", seen)
    assert run_command("govern", "report", "--data", tmp_path, "--out", tmp_path / "out")[0] == 1
    assert limits == [{"callee": 10, "caller": 5}]


@pytest.mark.source("L6", by="serving/rules/policy.toml")
@pytest.mark.source("L6", by="serving/rules/plan-2018.toml")
@pytest.mark.parametrize("profile", PROFILES)
def test_numbers_of_95_96_and_400_must_be_registered(profile):
    terms = read_policy(profile).terms
    unregistered = {
        word
        for code, word in enumerate(NUMBER_CLASSES)
        if "unregistered_number"
        in [rule.name for rule in matching_rules(RuleInput(caller_class=float(code), campaign=0.0), terms)]
    }
    assert unregistered == {"95_call_centre", "96", "400"}


@pytest.mark.source("L42", by="serving/custody/purposes.py")
@pytest.mark.parametrize("field", ["source", "basis", "purposes", "until"])
def test_a_declaration_without_one_of_its_fields_is_refused(tmp_path, field):
    fields = {"source": "a switch", "basis": "contract", "purposes": ["training"], "until": "2999-12-31"}
    empty = {"purposes": []}.get(field, "")
    with pytest.raises(ValueError, match=rf"^{field}: (expected|invalid) "):
        declare(tmp_path, **fields | {field: empty})
    assert not (tmp_path / "dataset.json").exists()
    entries = []
    declare(tmp_path, **fields, enter=entries.append)
    written = json.loads((tmp_path / "dataset.json").read_text())
    assert [entry["basis"] for entry in entries] == ["contract"], "the log gets the declaration"
    for content in (written | {field: empty}, {name: value for name, value in written.items() if name != field}):
        (tmp_path / "dataset.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"dataset\.json"):
            require_purpose(tmp_path, "training")
