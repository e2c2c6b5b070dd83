"""Builds kernel and forest as C libraries; where nothing compiles, the package installs, and runs interpreted.

`features/codegen/compiled_library.py` and `serving/bundle/forest_library.py` load them. Compiler: the variable CC, else
`cc`, else Zig, a build requirement only where it is needed. The variable CFLAGS adds options.
`CALLSIEVE_PLATFORM=manylinux_2_17_aarch64` makes a wheel for that platform, whose headers Zig contains.
"""

import hashlib
import importlib
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

ROOT = Path(__file__).parent
KERNEL, FOREST = "callsieve.features.codegen.kernel", "callsieve.serving.bundle.forest"
SHIPPED = "callsieve/serving/shipped/bundle/MANIFEST.json"
FOREST_SOURCE = "serving/bundle/forest.c"
PLATFORM = os.environ.get("CALLSIEVE_PLATFORM", "")
COMPILER = [] if PLATFORM else shlex.split(os.environ.get("CC", "")) or [path for path in [shutil.which("cc")] if path]
# The flags after CFLAGS keep results equal to those of the interpreted code.
FLAGS = ["-O3", *shlex.split(os.environ.get("CFLAGS", "")), "-fno-fast-math"]
FLAGS += ["-std=c11", "-fwrapv", "-ffp-contract=off", "-fno-math-errno", "-g0", "-shared", "-fPIC"]


class BuildLibraries(build_ext):
    """Compiles shared libraries without Python in them; the kernel's source is generated."""

    def run(self) -> None:
        """Compiles the libraries; they share the files of the C library that Zig compiles first."""
        with tempfile.TemporaryDirectory() as self.work:
            super().run()

    def build_extension(self, ext: Extension) -> None:
        """Compiles one library.

        Raises:
            CompileError: if that fails; setuptools goes on without an optional library.
        """
        source, target = ROOT / FOREST_SOURCE, Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        if ext.name == KERNEL:
            source = Path(self.work, "kernel.c")
            source.write_text(kernel_source(), encoding="utf-8")
        command = [*(COMPILER or zig()), *FLAGS, f"-DFOREST_VERSION={VERSION}", "-o", target, source, "-lm"]
        caches = dict.fromkeys(("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"), self.work)
        try:
            subprocess.run(command, check=True, env=os.environ | caches)  # noqa: S603 - our own command
        except (OSError, subprocess.CalledProcessError) as error:
            raise CompileError(str(error)) from error

    def get_ext_filename(self, fullname: str) -> str:
        """Returns the path of the library: it is not an extension module, so it gets no ABI suffix."""
        return "/".join(fullname.split(".")) + ".library"


class BuildWheel(bdist_wheel):
    """Tags the wheel for any Python 3, because the compiled library calls no function of Python; adds the SBOM."""

    def get_tag(self) -> tuple[str, str, str]:
        """Returns `py3-none-PLATFORM` if both libraries were built, else `py3-none-any`."""
        libraries = (Path(self.bdist_dir or "", f"{name.replace('.', '/')}.library") for name in (KERNEL, FOREST))
        built = all(path.is_file() for path in libraries)
        return "py3", "none", (PLATFORM or super().get_tag()[2]) if built else "any"

    def write_wheelfile(self, wheelfile_base: str, *generator: str) -> None:
        """Adds the SBOM beside the wheel's own metadata (PEP 770); an editable install has no files to list."""
        super().write_wheelfile(wheelfile_base, *generator)
        root = Path(self.bdist_dir or "")
        if (root / SHIPPED).is_file():
            bill = Path(wheelfile_base, "sboms", "callsieve.cdx.json")
            bill.parent.mkdir()
            content = sbom(root, self.distribution.get_version(), self.distribution.install_requires)
            bill.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def sbom(root: Path, version: str, requires: list[str]) -> dict[str, object]:
    """Returns the bill of materials of a wheel in CycloneDX 1.6: its contents and the packages that it requires.

    A required package has no version, because pip chooses it at the installation.

    Args:
        root: folder of the wheel's files.
        requires: requirements of the base install.
    """
    own = {"type": "library", "bom-ref": "callsieve", "name": "callsieve", "version": version}
    libraries = [root / f"{name.replace('.', '/')}.library" for name in (KERNEL, FOREST)]
    built = [path for path in libraries if path.is_file()]
    contents = [component("file", path.name, hashes=digest(path)) for path in built]
    if built and not COMPILER:
        licences = [{"expression": "MIT AND Apache-2.0 WITH LLVM-exception"}]
        compiler = importlib.metadata.version("ziglang")
        contents.append(component("library", "ziglang", version=compiler, licenses=licences))
    model = hashlib.sha256((root / SHIPPED).read_bytes()).hexdigest()[:12]
    contents.append(
        component("machine-learning-model", "callsieve-bundle", version=model, hashes=digest(root / SHIPPED))
    )
    names = [re.split(r"[^\w.-]", text)[0] for text in requires]
    packages = [
        component("library", name, purl=f"pkg:pypi/{name}", properties=[{"name": "callsieve:requires", "value": text}])
        for name, text in zip(names, requires, strict=True)
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": own
            | {
                "purl": f"pkg:pypi/callsieve@{version}",
                "licenses": [{"expression": "Apache-2.0"}],
                "components": contents,
            }
        },
        "components": packages,
        "dependencies": [{"ref": "callsieve", "dependsOn": names}],
    }


def component(kind: str, name: str, **fields: object) -> dict[str, object]:
    """Returns a component of a bill of materials, with its name as reference."""
    return {"type": kind, "bom-ref": name, "name": name, **fields}


def digest(path: Path) -> list[dict[str, str]]:
    """Returns the SHA-256 of a file as the hashes of a component."""
    return [{"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}]


def zig() -> list[str]:
    """Returns the command of Zig as a C compiler, for any processor of the platform."""
    target = ["-mcpu=baseline"]
    if PLATFORM:
        _, major, minor, machine = PLATFORM.split("_", 3)
        target = ["-target", f"{machine}-linux-gnu.{major}.{minor}"]
    return [sys.executable, "-m", "ziglang", "cc", "-w", "-s", *target]


def kernel_source() -> str:
    """Returns the kernel as C.

    Empty modules stand in for the packages above the translator, whose own `__init__.py` needs more than a build has.
    """
    for name, folder in (("callsieve", ROOT), ("callsieve.features", ROOT / "features")):
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    return importlib.import_module("callsieve.features.codegen.c_source").source()


# `forest_library.py` refuses a library of another source.
VERSION = "0x" + hashlib.sha256((ROOT / FOREST_SOURCE).read_bytes()).hexdigest()[:16] + "ULL"

setup(
    ext_modules=[Extension(name, sources=[], optional=not PLATFORM) for name in (KERNEL, FOREST)],
    cmdclass={"build_ext": BuildLibraries, "bdist_wheel": BuildWheel},
    # Reported to pip and `build` as a requirement of the build environment.
    setup_requires=[] if COMPILER else ["ziglang>=0.13"],
)
