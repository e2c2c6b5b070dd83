"""Measures `callsieve score` on a CSV file of raw call records, in units of LightGBM's prediction of one row.

python -m tests.bench.speed.bench_score [--calls 5000000] [--subscribers 45000] [--days 35] [--threads 2] [--seed 32]
    [--json]

A simulated world is written as CSV, and the shipped model scores it. The command runs in a process of its own; it
writes verdicts, with the reasons of the calls that the model labels. Calls that are `filling` are read and have
features, but the model does not score them. Processor time includes the start of the program. Before and after it,
LightGBM predicts the same kind of rows on one thread. Other work on shared cores makes both slower, so look at the
ratio. Run by hand; no test looks at a clock.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq

from callsieve.features.intake.intake import Intake
from callsieve.features.offline.table import vectors
from callsieve.features.online.feeds import COMPLETE
from callsieve.serving import Scorer, read_public_key
from callsieve.serving.bundle.shipped import SHIPPED_BUNDLE, SHIPPED_SIGNER
from callsieve.serving.custody.purposes import declare
from callsieve.training.world import simulate
from tests.bench.harness import figures_of, parser_of, show, times
from tests.support import real_bundle
from tests.support.calls.worlds import scenario_of

FIRST, PREDICTED = 100_000, 20_000
SCORE = """
import json, resource, sys, time
from pathlib import Path
from callsieve.serving.batch.call_files import CallFile
from callsieve.serving.batch.file_scoring import ScoreInputs, score_file

folder, threads = Path(sys.argv[1]), int(sys.argv[2])
calls = CallFile(path=folder / "calls.csv", layout="callsieve", key=folder / "number.key")
inputs = ScoreInputs(calls=calls, bundle=folder / "bundle", out=folder / "verdicts.parquet")
result = score_file(inputs, threads=threads, progress=lambda _what, _part: None)
print(json.dumps({"calls": result["calls"], "filling": result["filling"], "cpu": time.process_time(),
                  "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def write_inputs(folder: Path, options: Any) -> np.ndarray:
    """Writes records, key, bundle and declaration; returns rows to predict."""
    sizes = f"[sizes.small]\nsubscribers = {options.subscribers}\ndays = {options.days}\n"
    records = simulate(scenario_of(sizes), options.seed, "small").calls.drop_columns(["call"]).slice(0, options.calls)
    pyarrow.csv.write_csv(records, folder / "calls.csv")
    declare(folder, "simulated switch", "none needed", ["scoring"], "2999-12-31")
    real_bundle.NUMBER_KEY.write(folder / "number.key")
    shutil.copytree(SHIPPED_BUNDLE, folder / "bundle")
    shutil.copy(SHIPPED_SIGNER, folder / "signer.pub")
    scorer = Scorer.load(folder / "bundle", trusted=[read_public_key(folder / "signer.pub")])
    rows = vectors(Intake(real_bundle.NUMBER_KEY).table(records.slice(0, FIRST)), threads=options.threads)
    return scorer.model_input.rows(rows[-PREDICTED:], COMPLETE)


def predicted(folder: Path, rows: np.ndarray) -> float:
    """Returns the least microseconds of processor that LightGBM takes for a row."""
    booster = lightgbm.Booster(model_file=str(folder / "bundle" / "model.txt"))
    work = lambda: booster.predict(rows, raw_score=True, num_threads=1)
    return 1e6 * min(times(work, [()] * 3, time.process_time)) / len(rows)


def measured(folder: Path, options: Any) -> dict[str, Any]:
    """Returns the figures of one run."""
    rows = write_inputs(folder, options)
    before = predicted(folder, rows)
    figures = figures_of("-c", SCORE, folder, options.threads)
    row = (before + predicted(folder, rows)) / 2
    call = 1e6 * figures["cpu"] / figures["calls"]
    # Records that were not scored, such as invalid ones, have a row, too.
    assert pq.read_metadata(folder / "verdicts.parquet").num_rows >= figures["calls"]
    facts = {"calls": figures["calls"], "filling": figures["filling"], "peak_mib": figures["mib"]}
    return facts | {"call_us": call, "lightgbm_row_us": row, "call_in_rows": call / row}


def main() -> None:
    """Prints the figures."""
    defaults = {"calls": 5_000_000, "subscribers": 45_000, "days": 35}
    options = parser_of(__doc__, **defaults, threads=os.cpu_count() or 1, seed=32, json=False).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(Path(folder), options)
    show(figures, as_json=options.json)


if __name__ == "__main__":
    main()
