"""Builds the kernel as a C library where a compiler is found; without one the package installs and runs slower.

`features/codegen/compiled_library.py` loads the library.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
LIBRARY = "callsieve/features/codegen/kernel.library"
UNIX = ["-O3", "-std=c11", "-fwrapv", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-g0"]


class BuildKernel(build_ext):
    """Writes the kernel as C and compiles it to a shared library without Python in it."""

    def build_extension(self, ext: Extension) -> None:
        """Compiles one extension from generated source."""
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
        """Returns `py3-none-PLATFORM` if the library was built, else `py3-none-any`."""
        built = Path(self.bdist_dir or "", LIBRARY).is_file()
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


setup(
    ext_modules=[Extension("callsieve.features.codegen.kernel", sources=[], optional=True)],
    cmdclass={"build_ext": BuildKernel, "bdist_wheel": BuildWheel},
)
