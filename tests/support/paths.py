"""Folders that tests read: the project itself, and real data beside it that is not part of it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
