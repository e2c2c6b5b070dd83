"""Builds kernel and forest as C libraries where a compiler is found; without one the package installs and runs slower.

`features/codegen/compiled_library.py` and `serving/bundle/forest_library.py` load them.
"""

import hashlib
import importlib
import sys
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
KERNEL, FOREST = "callsieve.features.codegen.kernel", "callsieve.serving.bundle.forest"
FOREST_SOURCE = "serving/bundle/forest.c"
UNIX = ["-O3", "-std=c11", "-fwrapv", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-g0"]


class BuildLibraries(build_ext):
    """Compiles shared libraries without Python in them; the kernel's source is generated."""

    def build_extension(self, ext: Extension) -> None:
        """Compiles one library."""
        if ext.name == KERNEL:
            source = Path(self.build_temp) / "kernel.c"
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_text(kernel_source(), encoding="utf-8")
            ext.sources = [str(source)]
        if self.compiler.compiler_type != "msvc":
            ext.extra_compile_args = UNIX
        super().build_extension(ext)

    def get_ext_filename(self, fullname: str) -> str:
        """Returns the path of the library: it is not an extension module, so it gets no ABI suffix."""
        return "/".join(fullname.split(".")) + ".library"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """Returns the symbols to export: a plain library has no `PyInit_` function."""
        return ext.export_symbols


class BuildWheel(bdist_wheel):
    """Tags the wheel for any Python 3, because the compiled library calls no function of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """Returns `py3-none-PLATFORM` if a library was built, else `py3-none-any`."""
        libraries = (Path(self.bdist_dir or "", f"{name.replace('.', '/')}.library") for name in (KERNEL, FOREST))
        built = any(path.is_file() for path in libraries)
        return "py3", "none", super().get_tag()[2] if built else "any"


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
    ext_modules=[
        Extension(KERNEL, sources=[], optional=True),
        Extension(FOREST, sources=[FOREST_SOURCE], define_macros=[("FOREST_VERSION", VERSION)], optional=True),
    ],
    cmdclass={"build_ext": BuildLibraries, "bdist_wheel": BuildWheel},
)
