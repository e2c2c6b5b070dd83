"""The commands model export, govern token-list and live agi: their files, faults in one line, and no number."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time

import onnx
import pytest

from callsieve.features.keys.tokens import Key
from callsieve.serving.bundle.signing import generate_signing_key
from tests.serving.telephony.test_agi import COMMAND, head
from tests.support import http_service, lite_bundle, real_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("export")
    lite_bundle.write_bundle(place)
    Key("share1", bytes(range(32)), purpose="sharing").write(place / "sharing.key")
    return place


def test_export_as_onnx(run_command, folder):
    code, out, err = run_command(
        "model", "export", "--bundle", folder / "bundle", "--onnx", folder / "lite.onnx", "--json"
    )
    assert (code, err) == (0, "")
    assert json.loads(out)["thresholds"]["raw"] < 1e-12
    onnx.checker.check_model(str(folder / "lite.onnx"))
    code, out, _ = run_command("model", "export", "--bundle", folder / "bundle", "--onnx", folder / "again.onnx")
    assert code == 0
    assert "10 features" in out


def test_export_as_an_mlflow_model(run_command, folder):
    code, out, err = run_command("model", "export", "--bundle", folder / "bundle", "--mlflow", folder / "served")
    assert (code, err) == (0, "")
    assert "mlflow models serve" in out
    assert (folder / "served" / "MLmodel").is_file()


@pytest.mark.parametrize("options", [(), ("--mlflow", "a", "--onnx", "b")])
def test_export_needs_exactly_one_target(run_command, folder, options):
    code, _, err = run_command("model", "export", "--bundle", folder / "bundle", *options)
    assert code == 2
    assert err.strip() == "callsieve: model export: expected either --mlflow FOLDER or --onnx FILE"


def test_a_list_is_made_and_looked_up(run_command, folder):
    generate_signing_key(folder / "list.key", folder / "list.pub")
    (folder / "numbers.txt").write_text("13812345679\n+86 139 0000 0000\n110\n\n")
    made = ("--key", folder / "sharing.key", "--signing-key", folder / "list.key", "--list-epoch", 4)
    code, out, err = run_command(
        "govern", "token-list", "make", folder / "numbers.txt", "--out", folder / "list", *made, "--json"
    )
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert (facts["tokens"], facts["protected"], facts["unreadable"], facts["epoch"]) == (2, 1, 1, 4)
    again = [word for word in made if word != "--json"]
    code, out, _ = run_command(
        "govern", "token-list", "make", folder / "numbers.txt", "--out", folder / "again", *again
    )
    cells = [cell.strip() for cell in out.split("│")]
    assert code == 0 and [cells[cells.index(name) + 1] for name in ("tokens", "epoch")] == ["2", "4"]
    assert b"1234" not in (folder / "list").read_bytes().partition(b"\n")[0]
    for days in ("inf", "nan", "-5", "0", "1e300"):
        words = ("--out", folder / "never", *made, f"--valid-days={days}")
        code, out, err = run_command("govern", "token-list", "make", folder / "numbers.txt", *words)
        assert (code, out) == (1, "") and not (folder / "never").exists()
        assert err.startswith("callsieve: --valid-days: expected more than 0 and at most 36,500, got ")
    look_up = (
        "govern",
        "token-list",
        "lookup",
        folder / "list",
        "--key",
        folder / "sharing.key",
        "--trust",
        folder / "list.pub",
    )
    code, out, err = run_command(*look_up, stdin="0086 138 1234 5679\n13812345670\n13900000000\n110\n")
    assert (code, out.split(), err) == (0, ["yes", "no", "yes", "no"], "")
    code, out, err = run_command(*look_up, "--json", stdin="13812345679\n110\n")
    assert (code, json.loads(out), err) == (0, {"listed": [True, False]}, "")
    code, _, err = run_command(*look_up, "--minimum-epoch", 5, stdin="")
    assert code == 1
    assert err.startswith("callsieve: ")
    assert "epoch must be at least 5, got 4" in err


def test_agi_answers_asterisk_until_it_is_stopped(tmp_path):
    http_service.write_service_files(tmp_path / "service", valid_until="2036-04-01T00:00:00Z")
    port, place = http_service.free_port(), tmp_path / "service"
    command = [sys.executable, "-m", "callsieve.training", "live", "agi", "--bundle", place / "bundle", "--port", port]
    command += ["--key", place / "number.key", "--state", place / "state", "--policy", place / "policy.toml"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([*map(str, command)], stdout=log, stderr=log)
    try:
        with _connected(port) as line:
            line.sendall(head(caller="13812345679"))
            with line.makefile("rb") as said:
                for _ in range(3):
                    assert COMMAND.fullmatch(said.readline().decode())
                    line.sendall(b"200 result=1\n")
                assert said.read() == b""
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.wait()
    assert (tmp_path / "log").read_bytes() == b""
    kept = b"".join(path.read_bytes() for path in (place / "state").rglob("*") if path.is_file())
    assert real_bundle.NUMBER_KEY.token("number", "+8613812345679").encode() in kept
    assert b"13812345679" not in kept


def _connected(port):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionError):
            return socket.create_connection(("127.0.0.1", port), 10)
        time.sleep(0.05)
    raise AssertionError("nobody listens")
