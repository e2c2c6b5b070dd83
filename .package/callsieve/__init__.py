"""Nuisance-call classifier that its users can retrain, embed and audit.

Start with `callsieve.features` (call histories to vectors), `callsieve.serving` (vectors to verdicts) or
`callsieve.training` (calls and labels to a signed model). Each is imported when it is first used.

This file makes `callsieve` a regular package. Without it, a folder named `callsieve` beside a script, such as a clone
of the project, would be imported instead of the installed package.
"""

from importlib import import_module
from typing import Any

__all__ = ["__version__", "features", "serving", "training"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # slow to import, so only on request

        value: Any = version("callsieve")
    elif name in __all__:
        return import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
