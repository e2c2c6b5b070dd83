"""The installed package has all its parts, its wheels fit their platforms, and a clone does not hide it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", ".package", "features", "serving", "training")
LIBRARY = "callsieve/features/codegen/kernel.library"
# Without a network where setuptools is installed.
BUILD = ["-m", "pip", "wheel", "-q", "--no-deps"]
SCRIPT = """
import callsieve
print(callsieve.__file__, callsieve.__version__, callsieve.features.__file__, sep="\\n")
from callsieve.features.codegen.compiled_library import library
print(library() is not None)
"""


def test_every_folder_of_a_package_is_installed():
    faces = [path for top in ("features", "serving", "training") for path in (ROOT / top).rglob("__init__.py")]
    names = {".".join(("callsieve", *face.parent.relative_to(ROOT).parts)) for face in faces}
    files_alone = {"callsieve.serving.telephony.kamailio"}  # Kamailio opens its files by their paths
    assert set(SETUPTOOLS["packages"]) == {"callsieve"} | names | files_alone
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


def build_wheel(source, folder, **variables):
    """Builds a wheel of the copy in an environment with other variables."""
    command = [sys.executable, *BUILD, "-w", folder, source]
    built = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | variables)
    assert built.returncode == 0, built.stderr
    shutil.rmtree(source / "build", ignore_errors=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_is_for_any_python_3_on_this_platform(wheel):
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name.endswith(f"-py3-none-{platform}.whl")
    assert LIBRARY in zipfile.ZipFile(wheel).namelist()


def test_without_a_compiler_the_wheel_is_for_any_platform(source, tmp_path):
    wheel = build_wheel(source, tmp_path, CC="false")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert LIBRARY not in zipfile.ZipFile(wheel).namelist()


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
