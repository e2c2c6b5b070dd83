"""The installed package has all its parts, its wheels fit their platforms, and LICENSES.md lists its dependencies."""

import base64
import ctypes
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT

SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", ".package", "features", "serving", "training")
LIBRARIES = ("callsieve/features/codegen/kernel.library", "callsieve/serving/bundle/forest.library")
# Without a network where setuptools is installed.
BUILD = ["-m", "pip", "wheel", "-v", "--no-deps"]
QUICK = {"CFLAGS": "-O0"}  # what a package contains does not depend on optimisation, which takes 10 s
SCRIPT = """
import callsieve
print(callsieve.__file__, callsieve.__version__, callsieve.features.__file__, sep="\\n")
from callsieve.features.codegen.compiled_library import library
print(library() is not None)
"""


def test_every_folder_of_a_package_is_installed():
    faces = [path for top in ("features", "serving", "training") for path in (ROOT / top).rglob("__init__.py")]
    names = {".".join(("callsieve", *face.parent.relative_to(ROOT).parts)) for face in faces}
    files_alone = ("telephony.kamailio", "shipped", "shipped.bundle", "shipped.documents")  # opened by their paths
    assert set(SETUPTOOLS["packages"]) == {"callsieve"} | names | {f"callsieve.serving.{name}" for name in files_alone}
    assert not (ROOT / "__init__.py").exists()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the sources: a build leaves nothing in the project."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.library"))
        else:
            shutil.copy(ROOT / name, folder)
    return folder


def build_wheel(source, folder, *options, **variables):
    """Builds a wheel of the copy in an environment with other variables."""
    command = [sys.executable, *BUILD, *options, "-w", folder, source]
    built = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | QUICK | variables)
    assert built.returncode == 0, built.stderr
    assert "setuptools' `packages` configuration" not in built.stderr  # files in a folder that is no package
    shutil.rmtree(source / "build", ignore_errors=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


PLATFORM = sysconfig.get_platform().replace("-", "_").replace(".", "_")


def test_the_wheel_is_for_any_python_3_on_this_platform(wheel):
    assert wheel.name.endswith(f"-py3-none-{PLATFORM}.whl")
    assert set(LIBRARIES) <= set(zipfile.ZipFile(wheel).namelist())


def bill_of(wheel):
    """Returns the SBOM in a wheel (PEP 770): its contained components and its required packages, by name."""
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if ".dist-info/sboms/" in name)
    text = archive.read(name).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    groups = bill["metadata"]["component"]["components"], bill["components"]
    return [{entry["name"]: entry for entry in group} for group in groups]


def test_the_sbom_in_the_wheel_lists_what_it_contains_and_requires(wheel):
    contents, packages = bill_of(wheel)
    archive = zipfile.ZipFile(wheel)
    files = dict(zip(("kernel.library", "forest.library"), LIBRARIES, strict=True))
    files["callsieve-bundle"] = "callsieve/serving/shipped/bundle/MANIFEST.json"
    hashes = {name: entry["hashes"][0]["content"] for name, entry in contents.items()}
    assert hashes == {name: hashlib.sha256(archive.read(path)).hexdigest() for name, path in files.items()}
    assert packages.keys() == {Requirement(text).name for text in PROJECT["dependencies"]}


def test_without_a_compiler_the_wheel_is_for_any_platform(source, tmp_path):
    wheel = build_wheel(source, tmp_path, CC="false")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not set(LIBRARIES) & set(zipfile.ZipFile(wheel).namelist())
    assert bill_of(wheel)[0].keys() == {"callsieve-bundle"}


@pytest.fixture(scope="module")
def zig(tmp_path_factory):
    """Variables of a machine without a compiler, whose build environment has Zig."""
    folder = tmp_path_factory.mktemp("zig")
    (folder / "bin").mkdir()
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--target", folder]
    done = subprocess.run([*command, "ziglang", "setuptools"], capture_output=True, text=True, check=False)
    if "No matching distribution" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    return {"PATH": str(folder / "bin"), "PYTHONPATH": str(folder), "CC": ""}


@pytest.mark.parametrize(("compiler", "brings"), [("", True), ("gcc", False)])
def test_a_build_asks_for_a_compiler_where_none_is_installed(zig, source, compiler, brings):
    code = "import setuptools.build_meta as hooks; print(*hooks.get_requires_for_build_wheel())"
    command, variables = [sys.executable, "-c", code], os.environ | zig | {"CC": compiler}
    done = subprocess.run(command, cwd=source, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("ziglang>=0.13" in done.stdout.split()) is brings


def test_the_compiler_that_a_build_brings_makes_a_wheel_that_loads(zig, source, tmp_path):
    wheel = build_wheel(source, tmp_path, "--no-build-isolation", **zig)
    assert wheel.name.endswith(f"-py3-none-{PLATFORM}.whl")
    for name in LIBRARIES:
        assert ctypes.CDLL(zipfile.ZipFile(wheel).extract(name, tmp_path))
    assert "LLVM-exception" in bill_of(wheel)[0]["ziglang"]["licenses"][0]["expression"]


def test_the_stated_command_makes_a_wheel_for_another_machine(zig, source, tmp_path):
    """The result has the machine in its header, and needs no newer glibc than its tag says."""
    (command,) = re.findall(r"^for machine .*$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    other, code = {"x86_64": ("aarch64", 183), "aarch64": ("x86_64", 62)}[os.uname().machine]
    assert "in x86_64 aarch64;" in command
    command = command.replace("x86_64 aarch64;", f"{other};")
    command = command.replace("python -m build", f"{sys.executable} -m build --no-isolation --outdir {tmp_path}")
    shell = ["/bin/sh", "-e", "-c", command]
    done = subprocess.run(shell, cwd=source, env=os.environ | zig, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (sdist,) = tmp_path.glob("*.tar.gz")
    (wheel,) = tmp_path.glob(f"{sdist.name[:-7]}-py3-none-manylinux_2_17_{other}.whl")
    for name in LIBRARIES:
        content = zipfile.ZipFile(wheel).read(name)
        assert int.from_bytes(content[18:20], "little") == code
        needed = {tuple(map(int, version)) for version in re.findall(rb"GLIBC_(\d+)\.(\d+)", content)}
        assert needed and max(needed) <= (2, 17)


def test_a_clone_beside_a_script_is_not_imported(wheel, source, tmp_path):
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    query = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip())
    zipfile.ZipFile(wheel).extractall(packages)
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(others) + "\n")
    shutil.copytree(source, tmp_path / "work" / "callsieve")
    (tmp_path / "work" / "script.py").write_text(SCRIPT)
    done = subprocess.run([python, "script.py"], cwd=tmp_path / "work", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    package, version, features, compiled = done.stdout.split()
    assert Path(package) == packages / "callsieve" / "__init__.py"
    assert Path(features) == packages / "callsieve" / "features" / "__init__.py"
    assert version == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert compiled == "True"


# Licences


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = {"base": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
# How packages without an SPDX expression name the licence that we write as one.
WORDS = {
    "Apache-2.0": r"Apache(-2\.0| Software License)",
    "BSD-3-Clause": "BSD",
    "MIT": "MIT",
    "PSF-2.0": "Python Software Foundation",
}


def listed():
    extra, rows = "", []
    for line in (ROOT / "LICENSES.md").read_text().splitlines():
        if line.startswith("## "):
            extra = line[3:]
        elif line.startswith("| ") and not line.startswith("| package"):
            rows.append((extra, *(cell.strip() for cell in line.strip("|").split("|"))))
    return rows


ROWS = listed()


def test_exactly_the_direct_dependencies_are_listed():
    names = {(extra, Requirement(text).name) for extra, more in REQUIREMENTS.items() for text in more}
    ours = {(extra, name) for extra, name, *_ in ROWS}
    assert ours == {(extra, name) for extra, name in names if name != PROJECT["name"]}
    assert len(ROWS) == len(ours)


@pytest.mark.parametrize(("extra", "name", "pin", "licence", "released", "why"), ROWS, ids=lambda value: value[:20])
def test_a_row_has_the_pinned_version_and_the_licence_of_the_package(extra, name, pin, licence, released, why):
    pins = dict(line.split("==") for line in (ROOT / "pins.txt").read_text().split())
    assert {canonicalize_name(package): version for package, version in pins.items()}[name] == pin
    requirement = next(entry for entry in map(Requirement, REQUIREMENTS[extra]) if entry.name == name)
    assert pin in requirement.specifier
    assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", released)
    assert why
    package = distribution(name)
    assert package.version == pin
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        assert licence == expression
        return
    classifiers = [text for text in metadata.get_all("Classifier", ()) if text.startswith("License ::")]
    assert re.search(WORDS[licence], "\n".join((metadata.get("License", ""), *classifiers)))
    if licence.startswith("BSD"):
        licences = [path for path in package.files or () if re.fullmatch(r"LICENSE(\.\w+)?", path.name)]
        (text,) = (path.read_text() for path in licences if ".dist-info" in path.parts[0])
        assert ("either the name" in text) == (licence == "BSD-3-Clause")


def test_each_pin_has_hashes_and_a_file_with_another_hash_is_refused(tmp_path):
    text = (ROOT / "constraints.txt").read_text()
    entries = {entry.split()[0]: entry for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE) if entry}
    assert [*entries] == (ROOT / "pins.txt").read_text().split()
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}$", entry, re.MULTILINE) for entry in entries.values())
    (small,) = (entry for name, entry in entries.items() if name.startswith("mdurl=="))
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", tmp_path / "files", "-r"]
    results = []
    for name, lines in (("true", small), ("false", re.sub(r"sha256:.{8}", "sha256:00000000", small))):
        (tmp_path / name).write_text(lines)
        results.append(subprocess.run([*command, tmp_path / name], capture_output=True, text=True, check=False))
    true, false = results
    if "No matching distribution" in true.stderr:
        pytest.skip("the package index cannot be reached")
    assert true.returncode == 0 and false.returncode == 1 and "DO NOT MATCH THE HASHES" in false.stderr


def test_a_commit_of_the_history_has_the_source_that_made_the_shipped_model():
    """The provenance names the commit, and the hash of the source in it: the history shows that both are true."""
    envelope = json.loads((ROOT / "serving/shipped/bundle.provenance.json").read_bytes())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    digest = statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]["digest"]
    git = ["git", "-C", str(ROOT)]
    shallow = subprocess.run([*git, "rev-parse", "--is-shallow-repository"], capture_output=True, check=False).stdout
    if shallow.strip() != b"false":
        pytest.skip("no whole history here")
    archive = [*git, "archive", "--format=zip", digest["gitCommit"], "features", "serving", "training"]
    packed = subprocess.run(archive, capture_output=True, check=True).stdout
    with zipfile.ZipFile(io.BytesIO(packed)) as files_of_commit:
        files = {Path(name): files_of_commit.read(name) for name in files_of_commit.namelist() if name[-1] != "/"}
    source = hashlib.sha256()
    # By folder, as the hash of the provenance is made; `Path` sorts by parts.
    for folder in ("features", "serving", "training"):
        for path in sorted(path for path in files if path.parts[0] == folder):
            if path.suffix in (".py", ".toml", ".csv", ".html"):
                source.update(path.as_posix().encode() + b"\0" + files[path])
    assert source.hexdigest() == digest["callsieveSource"]
    head = subprocess.run([*git, "merge-base", "--is-ancestor", digest["gitCommit"], "HEAD"], check=False)
    assert head.returncode == 0
