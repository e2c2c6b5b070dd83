"""Helpers of the benches: command lines from defaults, simulated worlds, intervals, memory and processor time."""

from __future__ import annotations

import argparse
import os
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any


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


def interval(values: Sequence[float | None]) -> dict[str, float | None]:
    """Returns mean and Student's 95 % interval of the values that are not None; one value has no interval.

    >>> {name: round(value, 3) for name, value in interval([1.0, None, 2.0, 3.0]).items()}
    {'mean': 2.0, 'low': -0.484, 'high': 4.484}
    """
    import numpy as np
    from scipy.stats import t

    numbers = np.array([value for value in values if value is not None], dtype=float)
    if len(numbers) < 2:
        return {"mean": float(numbers[0]) if len(numbers) else None, "low": None, "high": None}
    half = float(t.ppf(0.975, len(numbers) - 1) * numbers.std(ddof=1) / np.sqrt(len(numbers)))
    return {"mean": float(numbers.mean()), "low": float(numbers.mean()) - half, "high": float(numbers.mean()) + half}


def memory(field: str, process: int | str = "self") -> float:
    """Returns memory of a process in MiB: VmRSS now, VmHWM at its peak. `ru_maxrss` would include the parent's."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def processor_seconds(process: int) -> float:
    """Returns the processor time of a process in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
