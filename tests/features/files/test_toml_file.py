"""Every reader of a TOML file rejects an invalid one with a one-line message."""

import pytest

from callsieve.features.files.toml_file import parse_toml
from callsieve.features.reading.layouts import read_layout
from callsieve.serving.cases.case_rules import read_case_rules
from callsieve.serving.custody.retention import read_retention
from callsieve.serving.rules.policy import read_policy
from callsieve.training.data.label_policy import read_label_policy
from callsieve.training.model.settings import read_parameters
from callsieve.training.oversight.governance.incident import read_incident
from callsieve.training.oversight.log.gates import read_gates
from callsieve.training.world.basis.scenario import load_scenario

READERS = (
    read_layout, read_case_rules, read_policy, read_retention, read_gates, read_incident, read_label_policy,
    read_parameters, load_scenario,
)  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"x = " + b"[" * 100_000, id="lists"),
        pytest.param(b"x = " + b"{x = " * 100_000, id="tables"),
        pytest.param(b"x" + b".x" * 500 + b" = 1", id="names"),
        pytest.param(b"x = " + b"9" * 10_000, id="huge"),
        pytest.param(b"x = 1\nx = 1", id="twice"),
        pytest.param(b"\xff\xfe", id="bytes"),
        pytest.param(b"x =", id="cut"),
    ],
)
@pytest.mark.parametrize("read", READERS)
def test_invalid_toml_gives_a_one_line_message(tmp_path, read, data):
    path = tmp_path / "mine.toml"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="expected a TOML file") as caught:
        read(path)
    message = str(caught.value)
    assert "mine.toml: expected a TOML file, " in message
    assert message.count("\n") == 0 and len(message) < 300


def test_both_line_ends_are_accepted():
    assert parse_toml(b"[a]\r\nb = 1\r\n", "here") == parse_toml(b"[a]\nb = 1\n", "here") == {"a": {"b": 1}}
