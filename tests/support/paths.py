"""Folders that tests read: the project, and data sets beside it that are not part of it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
