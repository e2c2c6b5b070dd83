"""The Dockerfile and the Kubernetes manifest, without either: their commands run on real files as they would there.

Not run here are the build of the image, and what only a container runtime does: users, volumes, probes.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import files, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from callsieve.serving.bundle.bundle import load
from callsieve.serving.cli.command_tree import commands
from callsieve.serving.http import schema
from callsieve.training.cli.command_table import ROOT as COMMAND
from tests.support import http_service, real_bundle
from tests.support import small_bundle as small
from tests.support.calls.record_files import write_records
from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINNED = {canonicalize_name(pin.partition("==")[0]) for pin in (ROOT / "pins.txt").read_text().split()}
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
from callsieve.training.cli.command_table import main
main()
"""


def values(word, start=0):
    return [rest for instruction, rest in STEPS[start:] if instruction == word]


def command():
    """Returns the words of the entry point and its default arguments."""
    return [part for word in ("ENTRYPOINT", "CMD") for rest in values(word, LAST) for part in json.loads(rest)]


def environment():
    """Returns the variables of the image."""
    return dict(pair.split("=", 1) for rest in values("ENV", LAST) for pair in rest.split())


def option(name):
    """Returns the default that the image sets for an option of `callsieve serve`."""
    return environment()[f"CALLSIEVE_SERVE_{name.upper()}"]


def installed():
    """Returns the arguments of `uv pip install` as words."""
    (line,) = (rest for rest in values("RUN") if "uv pip install" in rest)
    return shlex.split(line.partition("uv pip install")[2])


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
    assert not {"mlflow", "lightgbm", "scikit-learn", "matplotlib", "pytest"} & distributions


def test_the_image_runs_without_privileges():
    words = [word for word, _ in STEPS]
    (user,) = values("USER", LAST)
    uid, gid = map(int, user.split(":"))  # by number, so that a cluster can see that it is not root
    assert uid > 0
    assert gid > 0
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert not [word for word in words[words.index("USER") :] if word in {"RUN", "COPY"}]
    (volume,) = values("VOLUME", LAST)
    assert option("state") == environment()["CALLSIEVE_LIVE_FILL_STATE"] == volume
    # Created before VOLUME: changes of a build to a declared volume are lost.
    before = STEPS[LAST : STEPS.index(("VOLUME", volume))]
    assert ("RUN", f"install -d -o {uid} -g {gid} -m 0700 {volume}") in before
    assert option("port") in values("EXPOSE", LAST)
    assert command() == ["callsieve", "serve"]


class Container(http_service.ServiceProcess):
    """The command of the image, with its paths mapped to a folder of this machine."""

    def __init__(self, folder, *words, wrapped=()):
        self.folder, self.port, self.ready = folder, http_service.free_port(), True
        self.log = folder / "service.log"
        more = ("--host", "127.0.0.1", "--port", self.port, "--deadline", 5000, "--max-calls", 1000)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*wrapped, *inside(folder), *map(str, (*command()[1:], *words, *more))],
                stdout=log,
                stderr=log,
                env=os.environ | mapped(folder),
            )


def inside(folder):
    """Returns the start of a command line with only the packages of the image, on a read-only root."""
    modules = {file.parts[0].partition(".")[0] for name in closure() - {"callsieve"} for file in files(name)}
    return [sys.executable, "-c", INSIDE, " ".join(modules | {"callsieve"}), str(folder / "state")]


def mapped(folder):
    """Returns the variables of the image, with its paths below a folder."""
    own = {name: value for name, value in environment().items() if name.startswith("CALLSIEVE_")}
    return {name: f"{folder}{value}" if value.startswith("/") else value for name, value in own.items()}


@pytest.fixture
def mounts(tmp_path):
    """The folders that the image expects, with two bundles, and keys in the layout of a volume of Kubernetes."""
    keys = http_service.write_service_files(tmp_path / "files")
    for name in ("state", *(option(part).strip("/") for part in ("trust", "key", "bundle"))):
        (tmp_path / (name if name == "state" else Path(name).parent)).mkdir(parents=True, exist_ok=True)
    bundles, secrets = tmp_path / "srv/callsieve/bundles", tmp_path / "run/secrets/callsieve"
    (tmp_path / "files/bundle").rename(bundles / "first")
    real_bundle.write_bundle(bundles / "second", epoch=6)
    (bundles / "current").symlink_to("first")
    (tmp_path / "files/signer.pub").rename(tmp_path / "srv/callsieve/trust/signer.pub")
    (secrets / "..2026_11_28").mkdir()
    (secrets / "..data").symlink_to("..2026_11_28")
    for name in ("number.key", "api.keys"):
        (tmp_path / "files" / name).rename(secrets / "..data" / name)
        (secrets / "..data" / name).chmod(0o440)  # as a volume with defaultMode 0440 and an fsGroup has it
        (secrets / name).symlink_to(f"..data/{name}")
    return tmp_path, keys


def test_the_command_serves_with_installed_packages_and_writes_only_to_the_state(mounts):
    folder, keys = mounts
    (check,) = values("HEALTHCHECK", LAST)
    check = json.loads(check.partition("CMD ")[2])
    assert check[0] == "python"
    with Container(folder, "--allow-group-read") as service:
        probe = [sys.executable, *(word.replace(":8080/", f":{service.port}/") for word in check[1:])]
        proxied = {"http_proxy": "http://127.0.0.1:9", "PATH": ""}
        assert subprocess.run(probe, env=proxied, check=False, capture_output=True).returncode == 0
        call = {"start": real_bundle.START, "caller": "13800138000", "callee": "13900139000"}
        code, body = service.post("/v1/score", json.dumps(call).encode(), keys["score"])
        assert code == 200, body
        assert json.loads(body)["status"] == "filling"  # it has just begun
        # A new link to another bundle is what a reload finds.
        (folder / "srv/callsieve/bundles/next").symlink_to("second")
        (folder / "srv/callsieve/bundles/next").rename(folder / "srv/callsieve/bundles/current")
        code, body = service.post("/v1/reload", b"", keys["admin"])
        assert (code, json.loads(body)["epoch"]) == (200, 6)
        assert service.stop() == 0, service.log_text()
        assert " ERROR " not in service.log_text()
        assert subprocess.run(probe, env=proxied, check=False, capture_output=True).returncode == 1
    assert list((folder / "state").iterdir())


def test_the_image_fills_a_state_from_call_records(mounts):
    folder, _ = mounts
    write_records([call for call in real_bundle.calls(300) if call.ring is not None], folder / "calls")
    words = ("live", "fill", "--calls", folder / "calls" / "calls.csv", "--allow-group-read", "--max-calls", 1000)
    done = subprocess.run(
        [*inside(folder), *map(str, (*words, "--max-numbers", 500, "--json"))],
        env=os.environ | mapped(folder),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["calls"] > 200
    assert list((folder / "state").glob("state-*.snapshot"))


def test_a_renamed_folder_that_is_mounted_itself_is_no_new_model(tmp_path):
    """The mount shows the renamed folder: a reload that answers 200 would leave the old model in service unseen."""
    keys = http_service.write_service_files(tmp_path)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    wrapped = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
               f'mount --bind {tmp_path}/bundle {mounted} && exec "$@"', "sh")  # fmt: skip
    more = ("--bundle", mounted, "--trust", tmp_path / "signer.pub")
    with http_service.ServiceProcess(tmp_path, *more, wrapped=wrapped) as service:
        (tmp_path / "bundle").rename(tmp_path / "old")
        real_bundle.write_bundle(tmp_path / "bundle", epoch=6)
        code, body = service.post("/v1/reload", b"", keys["admin"])
        assert code == 409 and b"mount the folder of bundles" in body
        assert service.status(keys["admin"])["model"]["epoch"] == 5


def test_secrets_that_others_may_read_are_refused_in_every_layout(mounts, command_error):
    folder, _ = mounts
    state, secrets = folder / "state", folder / "run/secrets/callsieve"
    words = ["serve", "--bundle", folder / "srv/callsieve/bundles/current", "--state", state]
    words += ["--trust", folder / "srv/callsieve/trust/signer.pub"]
    words += ["--key", secrets / "number.key", "--keys", secrets / "api.keys"]
    for mode, more, reason in (
        (0o440, (), "number.key has mode 0440: others may use it; change it to 0600"),
        (0o444, ("--allow-group-read",), "number.key has mode 0444: others may use it; change it to 0640"),
        (0o660, ("--allow-group-read",), "number.key has mode 0660: others may use it; change it to 0640"),
    ):
        (secrets / "number.key").chmod(mode)
        assert reason in " ".join(command_error(*words, *more).split())


def test_a_bundle_in_a_volume_of_kubernetes_is_opened(tmp_path):
    (tmp_path / "volume").mkdir()
    real_bundle.write_bundle(tmp_path / "volume" / "..2026_11_28")
    (tmp_path / "volume" / "..data").symlink_to("..2026_11_28")
    for path in (tmp_path / "volume" / "..2026_11_28").iterdir():
        (tmp_path / "volume" / path.name).symlink_to(f"..data/{path.name}")
    assert load(tmp_path / "volume", small.TRUSTED).epoch == 5


def test_the_manifest_runs_the_image_without_privileges_and_with_its_folders():
    manifest = (ROOT / "serving" / "http" / "kubernetes.yml").read_text()
    kinds = {document["kind"]: document for document in yaml.safe_load_all(manifest)}
    assert kinds.keys() == {"Service", "PersistentVolumeClaim", "StatefulSet"}
    pod = kinds["StatefulSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    user, group = map(int, values("USER", LAST)[0].split(":"))
    security = pod["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (user, group, group)
    assert security["runAsNonRoot"] and security["fsGroupChangePolicy"] == "OnRootMismatch"
    own = container["securityContext"]
    assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
    assert own["capabilities"] == {"drop": ["ALL"]}
    paths = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    needed = {option("state"), *(str(Path(option(name)).parent) for name in ("bundle", "trust", "key", "keys"))}
    assert paths.keys() == needed
    assert all(mount.get("readOnly") for path, mount in paths.items() if path != option("state"))
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["keys"]["secret"]["defaultMode"] == 0o440
    assert {mount["name"] for mount in paths.values()} == volumes.keys() | {"state"}
    (port,) = container["ports"]
    assert str(port["containerPort"]) == option("port")
    probes = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert set(probes.values()) == {schema.LIVE, schema.READY} and probes["readinessProbe"] == schema.READY
    words = [command()[0], *container["args"]]
    assert words[:2] == command()
    context = dict(commands(COMMAND))["serve"].make_context("serve", words[2:], resilient_parsing=True)
    assert context.params["allow_group_read"] is True
