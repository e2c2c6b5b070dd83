"""Tokens are keyed hashes of numbers; keys are read from files or the environment and never shown."""

import base64
import copy
import hmac
import os
import pickle
import re
import shlex
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.keys import tokens
from callsieve.features.keys.passphrase import VARIABLE
from callsieve.features.keys.tokens import USES, Key, is_token, key_from_environment, read_key

SECRET = bytes(range(32))
KEY = Key("e1", SECRET)


@pytest.mark.source("L40", by="features/keys/tokens.py")
@given(st.sampled_from(USES), st.text(), st.binary(min_size=32, max_size=100))
def test_a_token_is_an_hmac_sha256(use, text, secret):
    message = use.encode() + b"\0" + text.encode("utf-8", "surrogatepass")
    digest = hmac.digest(secret, message, "sha256")[:16]
    letters = "".join("abcdefghijklmnop"[half] for byte in digest for half in divmod(byte, 16))
    assert Key("e1", secret).token(use, text) == "e1." + letters


@pytest.fixture
def path(tmp_path):
    """The path of a key file."""
    KEY.write(tmp_path / "key")
    return tmp_path / "key"


@given(st.lists(st.text()))
def test_tokens_of_a_list_equal_single_tokens(texts):
    assert KEY.tokens("number", texts) == [KEY.token("number", text) for text in texts]


def test_tokens_differ_by_use_key_and_text():
    keys = (KEY, Key("e1", bytes(32)), Key("e2", SECRET))
    tokens = {key.token(use, text) for key in keys for use in USES for text in ("", "a", "b")}
    assert len(tokens) == len(keys) * len(USES) * 3


@given(st.text())
def test_a_token_has_no_run_of_digits(text):
    token = KEY.token("number", text)
    assert is_token(token)
    assert not re.search(r"\d{2}", token)


@pytest.mark.parametrize(
    "text", ["", "+8613800138000", "p00000", "e1.", "e1." + "a" * 31, "e1." + "q" * 32, "." + "a" * 32]
)
def test_other_texts_are_not_tokens(text):
    assert not is_token(text)
    assert not is_token(KEY.token("number", text) + "\n")


def test_an_unknown_use_is_refused():
    with pytest.raises(ValueError, match="use must be one of number, block"):
        KEY.token("name", "x")


@pytest.mark.parametrize("epoch", ["", "a.b", "a" * 17, "20261102", "e1\n", "é"])
def test_an_invalid_epoch_is_refused(epoch):
    with pytest.raises(ValueError, match="epoch must be"):
        Key(epoch, SECRET)


def test_a_short_secret_is_refused():
    with pytest.raises(ValueError, match="32 bytes or more, got 31"):
        Key("e1", bytes(31))


def test_a_key_is_neither_shown_nor_pickled():
    assert repr(KEY) == str(KEY) == "Key(epoch='e1')"
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            leave(KEY)


def test_generated_keys_differ():
    assert Key.generate("e1") != Key.generate("e1")


def test_a_key_file_round_trips(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key(path) == KEY


@pytest.mark.source("P2", by="features/keys/passphrase.py")
def test_a_key_file_with_a_passphrase_gives_no_key_without_it(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, "three horses 马")
    KEY.write(tmp_path / "key")
    data = (tmp_path / "key").read_bytes()
    assert base64.b64encode(SECRET) not in data and SECRET not in base64.b64decode(data.partition(b":")[2])
    assert read_key(tmp_path / "key") == KEY
    for wrong, text in (("", "is encrypted; set"), ("three horses", "is not the passphrase")):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(ValueError, match=text) as error:
            read_key(tmp_path / "key")
        assert wrong not in str(error.value) or not wrong
    monkeypatch.setenv(VARIABLE, "three horses 马")
    (tmp_path / "key").write_bytes(data[:-9] + (b"B" if data[-9:-8] == b"A" else b"A") + data[-8:])
    with pytest.raises(ValueError, match="is not the passphrase"):
        read_key(tmp_path / "key")


def test_a_key_file_without_a_passphrase_is_read_with_one_in_the_environment(monkeypatch, path):
    monkeypatch.setenv(VARIABLE, "anything")
    assert read_key(path) == KEY


def test_a_key_file_is_never_overwritten(path):
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="exists already; nothing is overwritten"):
        Key.generate("e2").write(path)
    assert path.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="file modes are those of POSIX")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_file_with_access_for_others_is_refused(path, mode):
    path.chmod(mode)
    with pytest.raises(ValueError, match=f"mode {mode:04o}"):
        read_key(path)


def test_a_key_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("CALLSIEVE_KEY", "e1:" + base64.b64encode(SECRET).decode())
    assert key_from_environment() == KEY
    monkeypatch.delenv("CALLSIEVE_KEY")
    with pytest.raises(ValueError, match="CALLSIEVE_KEY is not set"):
        key_from_environment()


@pytest.mark.parametrize("text", ["nonsense", "e1:", "e1:c2hvcnQ=", "e1:%%%%", ":" + "A" * 44, "é:" + "A" * 44])
def test_an_invalid_key_text_is_refused_and_not_shown(monkeypatch, text):
    monkeypatch.setenv("CALLSIEVE_KEY", text)
    with pytest.raises(ValueError, match="CALLSIEVE_KEY must hold a key as epoch:base64") as error:
        key_from_environment()
    assert text not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


def test_without_the_command_a_missing_key_is_named_with_python_that_makes_it(tmp_path, monkeypatch):
    path = tmp_path / "number.key"
    monkeypatch.setattr(tokens, "find_spec", lambda _name: None)  # the base install has no typer
    with pytest.raises(FileNotFoundError) as error:
        read_key(path)
    command = re.search("make it with `(.*)`", str(error.value))[1]
    assert command.startswith("python -c ")
    subprocess.run([sys.executable, *shlex.split(command)[1:]], check=True)
    assert read_key(path).epoch == "e1"
