"""The code of the how-to pages runs, and each command in the documents exists.

The tests of Spark, MLflow and ONNX run the code of these pages.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from callsieve.serving.cli.command_tree import commands
from callsieve.training.cli.main import ROOT as COMMAND
from tests.support import how_to
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
