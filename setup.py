"""Builds the kernel as C where there is a compiler; without one the install is whole, and slower.

`features/codegen/compiled_library.py` loads what comes of it.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
UNIX = ["-O3", "-std=c11", "-fwrapv", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-g0"]


class Kernel(build_ext):
    """Writes the C first, from the kernel's Python."""

    def build_extension(self, ext: Extension) -> None:
        """As of setuptools."""
        source = Path(self.build_temp) / "kernel.c"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(written(), encoding="utf-8")
        ext.sources = [str(source)]
        if self.compiler.compiler_type != "msvc":
            ext.extra_compile_args = UNIX
        super().build_extension(ext)

    def get_ext_filename(self, fullname: str) -> str:
        """Not the name of a module of Python, which it is not."""
        return "/".join(fullname.split(".")) + ".library"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """Those of a module of Python are not there."""
        return ext.export_symbols


def written() -> str:
    """Returns the kernel as C.

    The faces of the packages import what need not be installed here, so empty modules stand in for them.
    """
    for name, folder in (("callsieve", ROOT), ("callsieve.features", ROOT / "features")):
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    return importlib.import_module("callsieve.features.codegen.c_source").source()


setup(
    ext_modules=[Extension("callsieve.features.codegen.kernel", sources=[], optional=True)],
    cmdclass={"build_ext": Kernel},
)
