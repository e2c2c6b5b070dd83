"""The Dockerfile, without Docker: the copied files exist, and its command serves with the installed packages only."""

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
    return [rest for instruction, rest in STEPS[start:] if instruction == word]


def command():
    """Returns the words of the entry point and its default arguments."""
    return [part for word in ("ENTRYPOINT", "CMD") for rest in values(word, LAST) for part in json.loads(rest)]


def installed():
    """Returns the arguments of `pip install` as words."""
    (line,) = (rest for rest in values("RUN") if "pip install" in rest)
    return shlex.split(line.partition("pip install")[2])


def closure():
    """Returns the distributions that the image installs, by the metadata of this environment."""
    with_extras = lambda entry: [(canonicalize_name(entry.name), extra) for extra in (*entry.extras, "")]
    required = (Requirement(f"callsieve{word[1:]}" if word[0] == "." else word) for word in DISTRIBUTIONS)
    visited, waiting = set(), [pair for entry in required for pair in with_extras(entry)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in visited:
            continue
        visited.add((name, extra))
        for entry in map(Requirement, needs(name)):
            if entry.marker is None or entry.marker.evaluate({"extra": extra}):
                waiting += with_extras(entry)
    return {name for name, _ in visited}


def needs(name):
    """Returns the requirements of a distribution; for callsieve those of pyproject.toml."""
    if name != "callsieve":
        return requires(name) or ()
    extras = PROJECT["project"]["optional-dependencies"].items()
    return [
        *PROJECT["project"]["dependencies"],
        *(f"{requirement}; extra == '{name}'" for name, more in extras for requirement in more),
    ]


DISTRIBUTIONS = [word for word in installed() if not word.startswith("-") and word != "constraints.txt"]


def test_the_image_installs_pinned_distributions_only():
    words = installed()
    assert words[words.index("-c") + 1] == "constraints.txt"
    (own,) = (word for word in DISTRIBUTIONS if word.startswith("."))
    assert Requirement(f"callsieve{own[1:]}").extras <= set(PROJECT["project"]["optional-dependencies"])
    assert {canonicalize_name(word) for word in DISTRIBUTIONS if word != own} <= PINNED
    distributions = closure() - {"callsieve"}
    assert distributions <= PINNED
    assert not {"pandas", "mlflow", "pyarrow", "scikit-learn", "pytest"} & distributions


def test_the_copied_files_exist_and_are_the_whole_distribution():
    copied = set()
    for rest in values("COPY", 0):
        *sources, _ = (word for word in rest.split() if not word.startswith("--"))
        if "--from=" in rest:
            assert f"AS {re.search('--from=(.+?) ', rest)[1]}" in " ".join(values("FROM"))
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not ignored(source), f"{source} is not sent to the build"
        copied |= set(sources)
    project = PROJECT["project"]
    folders = set(PROJECT["tool"]["setuptools"]["package-dir"].values())
    files = {"pyproject.toml", "setup.py", "constraints.txt", project["readme"], *project["license-files"]}
    assert copied == folders | files
    for name in ("number.key", "api.keys", ".git", ".venv", "callsieve-demo", "tests", "mlflow.db"):
        assert ignored(name), name


def ignored(name):
    """Returns whether .dockerignore excludes a path at the root; the last matching line decides."""
    result = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and line[0] != "#" and fnmatch(name, line.lstrip("!")):
            result = line[0] != "!"
    return result


def test_the_build_downloads_only_packages_and_has_no_secret():
    assert not values("ADD")
    assert not re.search(r"https?://(?!127\.0\.0\.1)|curl|wget|git clone", " ".join(LINES))
    assert not re.search(r"(?i)(secret|passw|token|key)\w*=", " ".join(values("ENV") + values("ARG") + values("RUN")))
    assert {rest.split()[0].partition(":")[0] for rest in values("FROM")} == {"python"}
    (tag,) = {rest.split()[0].partition(":")[2] for rest in values("FROM")}
    version = tuple(map(int, re.fullmatch(r"(\d+)\.(\d+)-slim", tag).groups()))
    assert version >= (3, 11)


def test_the_image_runs_without_privileges():
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
    # Created before VOLUME: changes of a build to a declared volume are lost.
    before = STEPS[LAST : STEPS.index(("VOLUME", volume))]
    assert ("RUN", f"install -d -o {uid} -g {gid} -m 0700 {volume}") in before
    assert options["--port"] in values("EXPOSE", LAST)


class Container(http_service.ServiceProcess):
    """The command line of the image, with its paths mapped to a folder of this machine."""

    def __init__(self, folder, words, *more):
        self.folder, self.port, self.ready = folder, http_service.free_port(), True
        self.log = folder / "service.log"
        modules = {file.parts[0].partition(".")[0] for name in closure() - {"callsieve"} for file in files(name)}
        start = [sys.executable, "-c", INSIDE, " ".join(modules | {"callsieve"}), str(folder / "state")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*start, *words, *more, "--port", str(self.port)], stdout=log, stderr=log)


@pytest.fixture
def words(tmp_path):
    """The arguments of the command, and the files that they name."""
    keys = http_service.write_service_files(tmp_path)
    (tmp_path / "state").mkdir()
    name, *entry = command()
    assert name in PROJECT["project"]["scripts"]
    arguments = [str(tmp_path / Path(word).name) if word.startswith("/") else word for word in entry]
    assert all(Path(word).exists() for word in arguments if word.startswith("/"))
    return arguments, keys


def test_the_command_serves_with_installed_packages_and_writes_only_to_the_state(words, tmp_path):
    words, keys = words
    (check,) = values("HEALTHCHECK", LAST)
    check = json.loads(check.partition("CMD ")[2])
    assert check[0] == "python"
    # The added options override those of the image: one address, and limits for a slow machine.
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
