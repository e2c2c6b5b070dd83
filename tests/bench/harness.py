"""Helpers that the benches share: a command line from defaults, and memory and processor time of a process."""

from __future__ import annotations

import argparse
import os
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


def memory(field: str, process: int | str = "self") -> float:
    """Returns memory of a process in MiB: VmRSS now, VmHWM at its peak. `ru_maxrss` would include the parent's."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def processor_seconds(process: int) -> float:
    """Returns the processor time of a process in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
