"""Errors of a first try name the folder and the next step: a missing key, a port in use, a folder without a bundle."""

import socket

import pytest

from tests.support import real_bundle


@pytest.fixture
def folder(tmp_path):
    real_bundle.write_signed(tmp_path)
    real_bundle.NUMBER_KEY.write(tmp_path / "number.key")
    return tmp_path


@pytest.fixture
def serve(run_command, folder):
    """Runs `callsieve serve`, which fails; returns its error line."""

    def run(*options, command=("serve",), keys=True):
        words = {"bundle": "bundle", "key": "number.key", "state": "state"} | ({"keys": "api.keys"} if keys else {})
        paths = [word for name, path in words.items() for word in (f"--{name}", folder / path)]
        code, out, err = run_command(*command, *paths, *options)
        assert (code, out, err.count("\n")) == (1, "", 1)
        return err

    return run


def test_a_missing_file_of_keys_is_named_with_the_command_that_makes_it(serve, folder):
    api_keys = folder / "api.keys"
    assert f"{api_keys}: not found; make it with `callsieve live api-key --keys {api_keys} --name CLIENT`" in serve()
    (folder / "number.key").unlink()
    command = f"callsieve privacy key new {folder / 'number.key'} --epoch e1"
    assert f"{folder / 'number.key'}: not found; make it with `{command}`" in serve()


def test_a_port_in_use_is_named_with_the_options(serve):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for command in (("serve",), ("live", "agi")):
            error = serve("--port", port, command=command, keys=command == ("serve",))
            assert f"port {port} of 127.0.0.1: address already in use; choose another --port or --host" in error


def test_a_host_without_an_address_is_named(serve):
    assert "port 8080 of scorer.invalid: " in serve("--host", "scorer.invalid")


def test_a_folder_without_a_bundle_is_named(run_command, folder):
    (folder / "empty").mkdir()
    for name in ("empty", "signer.pub", "nowhere"):
        code, _, err = run_command("model", "verify", "--bundle", folder / name, "--trust", folder / "signer.pub")
        assert code == 1
        assert f"{folder / name}: MANIFEST.json is missing; expected a signed bundle, such as bundle/ in the" in err
