"""The user's key folder: private keys are found by the public key of a run, and never lie beside its log."""

import pytest

from callsieve.serving.bundle.signing import key_id, write_public_key
from callsieve.training.oversight.log.audit_log import append
from callsieve.training.oversight.log.key_folder import VARIABLE, key_folder, key_path, log_signing_key, new_key
from callsieve.training.run import signer
from tests.support import small_bundle as small
from tests.support.keys import write_key


@pytest.fixture
def keys(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "keys"))
    return tmp_path / "keys"


def test_a_new_key_is_the_users_alone(keys):
    key = new_key()
    (path,) = keys.iterdir()
    assert path.name == f"{key_id(key.public_key())}.key"
    assert (keys.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)


def test_the_key_folder_is_named_or_in_the_users_configuration(keys, monkeypatch, tmp_path):
    assert key_folder() == keys
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert key_folder() == tmp_path / "config" / "callsieve" / "keys"
    (tmp_path / "file").touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "keys"))
    with pytest.raises(ValueError, match=rf"no key can be made here .*; set {VARIABLE}, or give --signing-key FILE"):
        new_key()


def test_a_training_signs_with_the_key_of_its_log(keys, tmp_path):
    run, log = tmp_path / "run", tmp_path / "audit"
    run.mkdir()
    first = signer(run, log, None)
    assert [path.name for path in run.iterdir()] == ["signer.pub"] and len(list(keys.iterdir())) == 1
    append(log, "policy", {}, first)
    (tmp_path / "other").mkdir()
    again = signer(tmp_path / "other", log, None)
    assert again.private_bytes_raw() == first.private_bytes_raw() and len(list(keys.iterdir())) == 1
    assert log_signing_key(run, log, None).private_bytes_raw() == first.private_bytes_raw()


def test_the_key_beside_an_earlier_run_is_read_and_a_missing_one_is_named(keys, tmp_path):
    write_public_key(small.KEY.public_key(), tmp_path / "signer.pub")
    with pytest.raises(ValueError, match=rf"{keys}/[0-9a-f]{{16}}\.key: no key that signs .*; expected --signing-key"):
        log_signing_key(tmp_path, tmp_path / "audit", None)
    beside = write_key(small.KEY, tmp_path / "signing.key")
    assert key_path(tmp_path, tmp_path / "audit") == beside
    assert log_signing_key(tmp_path, tmp_path / "audit", None).public_key() == small.KEY.public_key()
