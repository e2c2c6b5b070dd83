"""The commands model export, govern token-list, live agi and study: files, options, and no number in clear."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time

import onnx
import pytest

from callsieve.features.catalogue import NAMES
from callsieve.features.catalogue.lite import LITE
from callsieve.serving.batch.vector_files import feature_names
from callsieve.serving.bundle.signing import generate_signing_key
from callsieve.training.studies import decay
from tests.serving.telephony.test_agi import COMMAND, head
from tests.support import http_service, lite_bundle, real_bundle
from tests.support.lists import write_toml
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("export")
    lite_bundle.write_bundle(place)
    return place


def test_export_writes_a_checked_onnx_file(command_text, run_command, folder):
    export = ("model", "export", "--bundle", folder / "bundle", "--out")
    code, out, err = run_command(*export, folder / "lite.onnx", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["thresholds"]["raw"] < 1e-12
    onnx.checker.check_model(str(folder / "lite.onnx"))
    assert "10 features" in command_text(*export, folder / "again.onnx")


def test_export_writes_an_mlflow_model(run_command, folder):
    code, out, err = run_command("model", "export", "--bundle", folder / "bundle", "--out", folder / "served")
    assert (code, err) == (0, "")
    assert "mlflow models serve" in out
    assert (folder / "served" / "MLmodel").is_file()


def test_a_list_of_all_numbers_is_published_and_looked_up(command_error, run_command, folder):
    generate_signing_key(folder / "list.key", folder / "issuer.pub")
    write_toml(folder, "own")
    (folder / "numbers.txt").write_text("13812345679\n+86 139 0000 0000\n110\n\n")
    publish = ("govern", "token-list", "publish", folder / "numbers.txt", "--key", folder / "sharing.key")
    publish += ("--signing-key", folder / "list.key", "--issuer", "own", "--out")
    for days in ("inf", "nan", "-5", "0", "1e300"):
        code, out, err = run_command(*publish, folder / "never", f"--valid-days={days}")
        assert (code, out) == (1, "") and not (folder / "never").exists()
        assert err.startswith("callsieve: --valid-days: expected more than 0 and at most 36,500, got ")
    assert "--store-key" in command_error(*publish, folder / "never", "--exclude", folder / "x", code=2)
    code, out, err = run_command(*publish, folder / "own", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert {name: facts[name] for name in ("listed", "new", "withdrawn", "protected", "unreadable", "epoch")} == {
        "listed": 2, "new": 2, "withdrawn": 0, "protected": 1, "unreadable": 1, "epoch": 1}  # fmt: skip
    assert b"1234" not in (folder / "own" / "000001.list").read_bytes().partition(b"\n")[0]
    look_up = ("govern", "token-list", "lookup", folder / "lists.toml")
    code, out, err = run_command(*look_up, stdin="0086 138 1234 5679\n13812345670\n13900000000\n110\n")
    assert (code, out.split()) == (0, ["own", "no", "own", "no"]) and "own: list 1 is in use until" in err
    (folder / "numbers.txt").write_text("13812345679\n")
    code, out, _ = run_command(*publish, folder / "own")
    cells = [cell.strip() for cell in out.split("│")]
    assert code == 0 and [cells[cells.index(name) + 1] for name in ("listed", "withdrawn", "epoch")] == ["1", "1", "2"]
    code, out, err = run_command(*look_up, "--json", stdin="13812345679\n13900000000\n")
    assert (code, json.loads(out)) == (0, {"listed": [["own"], []]})


@pytest.mark.system
def test_agi_answers_asterisk_until_it_is_stopped(tmp_path):
    http_service.write_service_files(tmp_path / "service", valid_until="2036-04-01T00:00:00Z")
    port, place = http_service.free_port(), tmp_path / "service"
    command = [sys.executable, "-m", "callsieve.training", "live", "agi", "--bundle", place / "bundle", "--port", port]
    command += ["--key", place / "number.key", "--state", place / "state", "--policy", place / "policy.toml"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([*map(str, command)], stdout=log, stderr=log)
    try:
        with connect(port) as line:
            line.sendall(head(caller="13812345679"))
            with line.makefile("rb") as output:
                for _ in range(5):
                    assert COMMAND.fullmatch(output.readline().decode())
                    line.sendall(b"200 result=1\n")
                assert output.read() == b""
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: b"the bundle was loaded again" in (tmp_path / "log").read_bytes())
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.wait()
    log = (tmp_path / "log").read_text()
    steps = [" INFO start: FastAGI on ", " INFO ready: scored", " INFO the bundle was loaded again", " INFO stop: "]
    assert [log.count(step) for step in steps] == [1] * 4 and " ERROR " not in log and "13812345679" not in log
    state = b"".join(path.read_bytes() for path in (place / "state").rglob("*") if path.is_file())
    assert real_bundle.NUMBER_KEY.token("number", "+8613812345679").encode() in state
    assert b"13812345679" not in state


def connect(port):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionError):
            return socket.create_connection(("127.0.0.1", port), 10)
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}")


# Studies


@pytest.mark.parametrize(
    ("name", "study", "expected"),
    [
        ("roll", "rolling", {"count": 3, "step_days": 3}),
        ("decay", "decay", {"train_days": 35, "periods": 8, "days": 7}),
    ],
)
def test_a_study_has_its_periods_and_writes_its_figures(
    run_command, world_folder, tmp_path, monkeypatch, name, study, expected
):
    """A replaced study receives its periods, and its figures are written."""
    parameters = {}

    def replacement(*_, **named):
        parameters.update(named)
        return {"a": 1}

    monkeypatch.setattr(decay, study, replacement)
    monkeypatch.setattr(decay, "picture", lambda figures: f"<svg>{figures['a']}</svg>")
    out = tmp_path / "out"
    code, text, _ = run_command("study", name, "--data", world_folder, "--out", out, "--json")
    assert (code, json.loads(text)) == (0, {"a": 1})
    assert expected.items() <= parameters.items()
    assert json.loads((out / f"{name}.json").read_text()) == {"a": 1}
    assert parameters["ledger"].gates
    if name == "decay":
        assert (out / "decay.svg").read_text() == "<svg>1</svg>"


def test_lite_is_ten_features_of_the_catalogue():
    assert feature_names("lite") == LITE
    assert feature_names(",".join(NAMES)) == NAMES  # longer than the name of a file may be
    assert len(set(LITE)) == 10 and set(LITE) <= set(NAMES)
