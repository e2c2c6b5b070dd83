"""The code of the how-to pages runs, and each command in the documents exists.

The tests of Spark, MLflow and ONNX run the code of these pages.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from callsieve.features.reading.layouts import read_layout
from callsieve.serving.bundle.signing import write_public_key
from callsieve.serving.cli.command_tree import commands
from callsieve.training.cli.main import ROOT as COMMAND
from callsieve.training.data.complaint_files import read_complaint_file
from callsieve.training.log.gates import shipped_gates
from tests.support import how_to, real_bundle
from tests.support import small_bundle as small
from tests.support.http_service import free_port
from tests.support.paths import ROOT

WRITTEN = ("README*.md", "docs/how-to/*.md", "docs/explanation/*.md", "docs/reference/bundle.md")
PAGES = sorted(path.relative_to(ROOT).as_posix() for pattern in WRITTEN for path in ROOT.glob(pattern))
# What follows the code of a page.
MORE = {
    "asterisk": r"""
request='agi_network_script: ring\nagi_channel: PJSIP/carrier-0000002a\nagi_uniqueid: 1.1\nagi_callerid: 13800138000
agi_extension: 13900139000\nagi_arg_1: signature_validation\nagi_arg_2: A\n\n'
for _ in $(seq 100); do { exec 3<>/dev/tcp/127.0.0.1/4573; } 2>/dev/null && break || sleep 0.1; done
printf "$request" >&3
read -r -t 5 answer <&3
echo "$answer"
""",
}
OUTPUT = {
    "embed": r"^pass filling nan \[\]$",
    "http": r'"status":"filling".*"action":"pass".*\{\}$',
    "kamailio": "config file ok",
    "asterisk": 'SET VARIABLE CALLSIEVE "(label|pass)"',  # a busy machine may miss the deadline
}


@pytest.mark.parametrize("page", OUTPUT)
def test_the_code_of_a_page_runs(page, tmp_path):
    script = how_to.script(page) + MORE.get(page, "")
    for port in ("8080", "4573"):
        script = script.replace(port, str(free_port()))
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"))
    variables = {name: value for name, value in os.environ.items() if not name.startswith("CALLSIEVE_")}
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=tmp_path,
        env=variables | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(OUTPUT[page], done.stdout + done.stderr, re.MULTILINE | re.DOTALL), done.stdout


OFFICES = {
    "offices/外呼登记.csv": "号码,业务类型,业务名称,委托主体,生效时间,失效时间,入库时间\n"
    "02888880000,贷款,某贷,某公司,2025-01-01 00:00:00,,2025-01-01 00:00:00\n",
    "12321.csv": "举报人号码,被举报号码,来电时间,举报时间,内容,形式\n"
    "13800138000,95013123456,2025-03-04 10:00:00,2025-03-04 12:30:00,贷款,录音\n",
}


def test_the_commands_of_the_page_on_governance_run(world_folder, run_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(world_folder, "data")
    pq.write_table(pq.read_table("data/calls.parquet").slice(0, 3000), "data/calls.parquet")
    Path("calls.parquet").symlink_to("data/calls.parquet")
    for folder in ("offices", "run"):
        Path(folder).mkdir()
    for name, text in OFFICES.items():
        Path(name).write_text(text, encoding="utf-8")
    real_bundle.write_bundle(tmp_path / "run" / "bundle")
    write_public_key(small.KEY.public_key(), tmp_path / "run" / "signer.pub")
    risk, owner = (
        json.loads(run_command("model", "approver-key", f"{name}.key", "--json")[1])["public"]
        for name in ("risk", "owner")
    )
    gates = shipped_gates().data.decode().replace("keys = {}", f'keys = {{ risk = "{risk}" }}')
    Path("gates.toml").write_text(f'{gates}\n[owner]\nname = "board"\nkey = "{owner}"\n')
    assert run_command("model", "sign-gates", "gates.toml", "--signing-key", "owner.key")[0] == 0
    code = "".join(block.code for block in how_to.blocks("governance"))
    for line in code.splitlines():
        words = shlex.split(line)[1:]
        if "abcdefghijklmnop" in words:
            listed = json.loads(run_command("govern", "complaints", "list", "--data", "data", "--json")[1])
            words[words.index("abcdefghijklmnop")] = listed["complaints"][0]["complaint"]
        done, out, error = run_command(*words, stdin="13800138000\n")
        assert done == ("overdue" in out), (line, error)


def test_the_layout_of_the_page_on_training_is_valid(tmp_path):
    (text,) = re.findall(r"```toml\n(.*?)```", (how_to.FOLDER / "train.md").read_text(), re.DOTALL)
    (tmp_path / "op.toml").write_text(text)
    names = ["CDR_ID", "ANI", "DNIS", "SETUP_TIME", "RING_SECS", "DURATION"]
    assert read_layout(tmp_path / "op.toml").match(names, "cdr.csv")["talk"] == ("DURATION",)
    accused = "complainant,accused,called,received\n13800138000,95013123456,04.03.2025 10:00,04.03.2025 12:30\n"
    (tmp_path / "complaints.csv").write_text(accused)
    read = read_complaint_file(tmp_path / "complaints.csv", str(tmp_path / "op.toml"), real_bundle.NUMBER_KEY)
    assert len(read.table) == 1


@pytest.mark.parametrize("page", PAGES)
def test_each_command_of_a_page_exists(page):
    known = dict(commands(COMMAND))
    text = (ROOT / page).read_text(encoding="utf-8")
    code = "\n".join(block.code for block in how_to.blocks_in(text) if block.language == "sh").replace("\\\n", " ")
    lines = re.findall(r"callsieve ([^`\n&]*)", code) + re.findall(r"`callsieve\s([^`]*)`", text)
    for line in lines:
        words = shlex.split(line.rstrip(")"), comments=True)
        path = max((name for name in known if words[: len(name.split())] == name.split()), key=len, default="")
        assert path or len(words) == 1, line
        options = {option for parameter in known[path].params for option in parameter.opts} if path else set()
        assert {word for word in words if word.startswith("--")} <= options, line
        following = words[len(path.split()) :]
        arguments = path and any(parameter.param_type_name == "argument" for parameter in known[path].params)
        assert not path or arguments or not following or following[0].startswith("--"), line
