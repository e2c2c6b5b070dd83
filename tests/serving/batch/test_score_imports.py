"""Scoring a file loads no module of training."""

import subprocess
import sys

import pytest

from tests.support import real_bundle
from tests.support.record_files import write_records

PROGRAM = """
import sys

import pytest
from pathlib import Path

from callsieve.serving.batch.call_files import CallFile
from callsieve.serving.batch.file_scoring import score_file
from callsieve.serving.batch.memory_scoring import ScoreInputs

bundle, calls, trust, out = map(Path, sys.argv[1:])
inputs = ScoreInputs(calls=CallFile(path=calls, layout="callsieve"), bundle=bundle, trust=trust, out=out)
figures = score_file(inputs, threads=1, progress=lambda step, share: None)
assert figures["calls"] == 50 and out.exists(), figures
loaded = [name for name in sys.modules if name.startswith("callsieve.training")]
assert not loaded, loaded
"""


@pytest.mark.system
def test_scoring_a_file_loads_no_module_of_training(tmp_path):
    finished_calls = [call for call in real_bundle.calls(100) if call.ring is not None]
    records = write_records(finished_calls[:50], tmp_path / "records")
    real_bundle.write_signed(tmp_path)
    paths = (tmp_path / "bundle", records / "calls.csv", tmp_path / "signer.pub", tmp_path / "verdicts.parquet")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
