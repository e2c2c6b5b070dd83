"""The Dockerfile, without Docker: what it copies is there, and its command serves with what it installs and no more."""

import json
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import files, requires
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import http_service, real_bundle
from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINNED = {canonicalize_name(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().split()}
LINES = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ").splitlines()
STEPS = [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in LINES if line.strip())]
LAST = [word for word, _ in STEPS].index("FROM", 1)

# Runs the command as the image would: packages that are not installed there cannot be imported, and nothing can be
# written outside the state folder.
INSIDE = """
import os, sys
allowed, state = set(sys.argv[1].split()) | set(sys.stdlib_module_names), sys.argv[2]
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed and not name.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
def read_only(event, arguments):
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if (writes or event in {"os.mkdir", "os.rename", "os.remove"}) and isinstance(arguments[0], str | os.PathLike):
        if not os.path.abspath(arguments[0]).startswith((state, "/dev/")):
            raise OSError(30, "Read-only file system", str(arguments[0]))
sys.meta_path.insert(0, Absent())
sys.addaudithook(read_only)
sys.argv[:] = ["callsieve", *sys.argv[3:]]
from callsieve.training.cli.main import main
main()
"""


def values(word, start=0):
    return [rest for found, rest in STEPS[start:] if found == word]


def command():
    """The words of the entry point and of what may stand after it."""
    return [part for word in ("ENTRYPOINT", "CMD") for rest in values(word, LAST) for part in json.loads(rest)]


def installed():
    """What pip is asked for, as words."""
    (line,) = (rest for rest in values("RUN") if "pip install" in rest)
    return shlex.split(line.partition("pip install")[2])


def closure():
    """Every distribution that the image's pip brings, by this environment's metadata."""
    asked = [Requirement(f"callsieve{word[1:]}" if word[0] == "." else word) for word in installed() if word in WANTED]
    found, waiting = set(), [(canonicalize_name(one.name), extra) for one in asked for extra in (*one.extras, "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for one in map(Requirement, needs(name)):
            if one.marker is None or one.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(one.name), more) for more in (*one.extras, "")]
    return {name for name, _ in found}


def needs(name):
    """What a distribution requires: ours, as pyproject.toml has it now."""
    if name != "callsieve":
        return requires(name) or ()
    extras = PROJECT["project"]["optional-dependencies"].items()
    return [
        *PROJECT["project"]["dependencies"],
        *(f"{one}; extra == '{name}'" for name, more in extras for one in more),
    ]


WANTED = [word for word in installed() if not word.startswith("-") and word != "constraints.txt"]


def test_it_installs_what_the_project_knows():
    words = installed()
    assert words[words.index("-c") + 1] == "constraints.txt"
    (own,) = (word for word in WANTED if word.startswith("."))
    assert Requirement(f"callsieve{own[1:]}").extras <= set(PROJECT["project"]["optional-dependencies"])
    assert {canonicalize_name(word) for word in WANTED if word != own} <= PINNED
    found = closure() - {"callsieve"}
    assert found <= PINNED
    assert not {"pandas", "mlflow", "pyarrow", "numba", "scikit-learn", "pytest"} & found


def test_what_is_copied_is_there_and_is_all_of_the_distribution():
    taken = set()
    for rest in values("COPY", 0):
        *sources, _ = (word for word in rest.split() if not word.startswith("--"))
        if "--from=" in rest:
            assert f"AS {re.search('--from=(.+?) ', rest)[1]}" in " ".join(values("FROM"))
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not ignored(source), f"{source} is not sent to the build"
        taken |= set(sources)
    project = PROJECT["project"]
    folders = set(PROJECT["tool"]["setuptools"]["package-dir"].values())
    files = {"pyproject.toml", "setup.py", "constraints.txt", project["readme"], *project["license-files"]}
    assert taken == folders | files
    for name in ("number.key", "api.keys", ".git", ".venv", "callsieve-demo", "tests", "mlflow.db"):
        assert ignored(name), name


def ignored(name):
    """Whether .dockerignore keeps a path at the root out: the last line that fits decides."""
    result = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and line[0] != "#" and fnmatch(name, line.lstrip("!")):
            result = line[0] != "!"
    return result


def test_nothing_from_the_net_but_packages_and_no_secret():
    assert not values("ADD")
    assert not re.search(r"https?://(?!127\.0\.0\.1)|curl|wget|git clone", " ".join(LINES))
    assert not re.search(r"(?i)(secret|passw|token|key)\w*=", " ".join(values("ENV") + values("ARG") + values("RUN")))
    assert {rest.split()[0].partition(":")[0] for rest in values("FROM")} == {"python"}
    (tag,) = {rest.split()[0].partition(":")[2] for rest in values("FROM")}
    version = tuple(map(int, re.fullmatch(r"(\d+)\.(\d+)-slim", tag).groups()))
    assert version >= (3, 11)


def test_it_runs_as_nobody_special():
    words = [word for word, _ in STEPS]
    (user,) = values("USER", LAST)
    uid, gid = map(int, user.split(":"))  # by number, so that a cluster can see that it is not root
    assert uid > 0
    assert gid > 0
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert not [word for word in words[words.index("USER") :] if word in {"RUN", "COPY"}]
    options = dict(pairwise(command()))
    (volume,) = values("VOLUME", LAST)
    assert options["--state"] == volume
    # Made before it is declared: what a build does to a volume afterwards is lost.
    before = STEPS[LAST : STEPS.index(("VOLUME", volume))]
    assert ("RUN", f"install -d -o {uid} -g {gid} -m 0700 {volume}") in before
    assert options["--port"] in values("EXPOSE", LAST)


class Container(http_service.ServiceProcess):
    """The image's own command line, its paths mapped to a folder of this machine."""

    def __init__(self, folder, words, *more):
        self.folder, self.port, self.ready = folder, http_service.free_port(), True
        self.log = folder / "service.log"
        modules = {file.parts[0].partition(".")[0] for name in closure() - {"callsieve"} for file in files(name)}
        start = [sys.executable, "-c", INSIDE, " ".join(modules | {"callsieve"}), str(folder / "state")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*start, *words, *more, "--port", str(self.port)], stdout=log, stderr=log)


@pytest.fixture
def words(tmp_path):
    """The command's words after its name, with files in the places that it names."""
    keys = http_service.write_service_files(tmp_path)
    (tmp_path / "state").mkdir()
    name, *entry = command()
    assert name in PROJECT["project"]["scripts"]
    placed = [str(tmp_path / Path(word).name) if word.startswith("/") else word for word in entry]
    assert all(Path(word).exists() for word in placed if word.startswith("/"))
    return placed, keys


def test_the_command_serves_with_what_is_installed_and_writes_only_to_the_state(words, tmp_path):
    words, keys = words
    (check,) = values("HEALTHCHECK", LAST)
    check = json.loads(check.partition("CMD ")[2])
    assert check[0] == "python"
    # Not on every address of this machine, and not for longer than a slow machine needs: what is added wins.
    with Container(tmp_path, words, "--host", "127.0.0.1", "--deadline", "5000", "--max-calls", "1000") as service:
        probe = [sys.executable, *(word.replace(":8080/", f":{service.port}/") for word in check[1:])]
        proxied = {"http_proxy": "http://127.0.0.1:9", "PATH": ""}
        assert subprocess.run(probe, env=proxied, check=False, capture_output=True).returncode == 0
        call = {"start": real_bundle.START, "caller": "13800138000", "callee": "13900139000"}
        code, body = service.post("/v1/score", json.dumps(call).encode(), keys["score"])
        assert code == 200, body
        assert json.loads(body)["status"] == "filling"  # it has just begun
        assert service.stop() == -signal.SIGTERM, service.log_text()
        assert not service.log_text()
        assert subprocess.run(probe, env=proxied, check=False, capture_output=True).returncode == 1
    assert list((tmp_path / "state").iterdir())
