"""Helpers of the benches: command lines from defaults, simulated worlds, memory and processor time of a process.

Benches run as scripts; the import of this module makes `tests.support` importable.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))


def parser_of(description: str, *paths: str, **defaults: Any) -> argparse.ArgumentParser:
    """Returns a parser with positional paths and an option for each default; False makes a flag."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in paths:
        parser.add_argument(name, type=Path)
    for name, default in defaults.items():
        kind: dict[str, Any] = {"action": "store_true"} if default is False else {"type": type(default)}
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, **kind)
    return parser


def simulated_world(size: str, seed: int, **changes: int | None) -> Any:
    """Returns a simulated world with a random key; `changes` replace figures of the size, such as its days."""
    from callsieve.features.keys.tokens import Key
    from callsieve.training.studies.simulated import simulated

    lines = [f"{name} = {value}\n" for name, value in changes.items() if value is not None]
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "scenario.toml"
        scenario.write_text("".join((f"[sizes.{size}]\n", *lines)), encoding="utf-8")
        key = Key("e1", secrets.token_bytes(32))
        return simulated(size, seed, scenario if lines else None, key, lambda *_: None)


def memory(field: str, process: int | str = "self") -> float:
    """Returns memory of a process in MiB: VmRSS now, VmHWM at its peak. `ru_maxrss` would include the parent's."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def processor_seconds(process: int) -> float:
    """Returns the processor time of a process in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
