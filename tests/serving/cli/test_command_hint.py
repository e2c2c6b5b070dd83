"""The next step that a message names can be taken in the install that writes the message."""

import pytest

from callsieve.serving.custody import command_hint
from callsieve.serving.custody.purposes import require_purpose
from callsieve.serving.rules.registers import Registers


@pytest.fixture(params=[True, False], ids=["with commands", "base install"])
def hint(request, monkeypatch):
    """The text that follows a command in a message: empty where the command exists."""
    if not request.param:
        monkeypatch.setattr(command_hint, "find_spec", lambda name: {"typer": None}[name])
    return "" if request.param else " (a command of pip install 'callsieve[train]')"


def test_messages_of_a_host_name_commands_and_what_installs_them(tmp_path, hint):
    with pytest.raises(ValueError) as refusal:
        Registers.read(tmp_path)
    assert str(refusal.value).endswith(f"; see callsieve ingest registers{hint}")
    with pytest.raises(ValueError) as refusal:
        require_purpose(tmp_path, "scoring", must_be_declared=True)
    assert str(refusal.value).endswith(f"; write it with callsieve privacy declare {tmp_path}{hint}")
