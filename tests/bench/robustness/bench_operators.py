"""Judges the shipped model on the records of one operator of several in another simulator's network.

python -m tests.bench.robustness.bench_operators --simulator SCRIPT [--seed 51] [--shares 3,5,10] [--json]

A share of 3 is an operator with a third of all numbers, drawn by chance. It records the calls of these numbers, so of a
caller of another network it knows only the calls to them. Each share is judged with the feed that the records show, and
with the feed pinned to "sparse". Judged are the calls from the ninth day on whose caller's truth is known. A call is
flagged if its action is not "pass", so rules count, too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.files.progress import silent
from callsieve.features.online.feeds import SPARSE
from callsieve.serving.batch.call_files import CallFile
from callsieve.serving.batch.file_scoring import ScoreInputs, score_file
from tests.bench.harness import parser_of, show
from tests.support.paths import ROOT

FIRST_DAY = 8  # days before it are history
BUNDLE, POLICY = ROOT / "serving/shipped/bundle", ROOT / "serving/rules/policy.toml"


def main() -> None:
    """Prints the figures of each share, with the feed as recognised and pinned."""
    parser = parser_of(__doc__, simulator="", seed=51, people=6000, days=31, shares="3,5,10", json=False)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        network, pinned = Path(work, "network"), Path(work, "policy.toml")
        sizes = ["--people", str(options.people), "--seed", str(options.seed), "--days", str(options.days)]
        subprocess.run([sys.executable, options.simulator, network, *sizes], check=True, stdout=subprocess.DEVNULL)
        pinned.write_text(f'feed = "{SPARSE}"\n{POLICY.read_text(encoding="utf-8")}', encoding="utf-8")
        report: dict[str, Any] = {}
        for share in options.shares.split(","):
            folder = records_of_operator(network, int(share), options.seed)
            report[share] = {"recognised": transfer(folder, BUNDLE), "pinned": transfer(folder, BUNDLE, pinned)}
    show(report, as_json=options.json)


def records_of_operator(network: Path, share: int, seed: int) -> Path:
    """Returns a folder beside a network's with the calls of one number in `share`, and the truth of all numbers."""
    folder = network.with_name(f"operator-{share}")
    folder.mkdir()
    calls = pq.read_table(network / "calls.parquet")
    caller, callee = (calls[name].cast(pa.string()) for name in ("caller", "callee"))
    numbers = pc.unique(pa.chunked_array([*caller.chunks, *callee.chunks])).sort()
    own = numbers.take(pa.array(np.random.default_rng(seed).permutation(len(numbers))[::share]))
    recorded = pc.or_(pc.is_in(caller, value_set=own), pc.is_in(callee, value_set=own))
    pq.write_table(calls.filter(recorded), folder / "calls.parquet")
    (folder / "truth.parquet").write_bytes((network / "truth.parquet").read_bytes())
    return folder


def transfer(folder: Path, bundle: Path, policy: Path | None = None) -> dict[str, Any]:
    """Returns the figures of a bundle on the calls of a folder, by the shipped policy or by another one."""
    with tempfile.TemporaryDirectory() as work:
        out = Path(work, "verdicts.parquet")
        calls = CallFile(path=folder / "calls.parquet", layout="callsieve")
        inputs = ScoreInputs(calls=calls, bundle=bundle, out=out, keep=("caller",), policy=policy)
        feed = score_file(inputs, threads=0, progress=silent)["feed"]
        verdicts = pd.read_parquet(out, columns=["start", "action", "own caller"])
    return {"feed": feed, "calls": judged(verdicts, pd.read_parquet(folder / "truth.parquet"))}


def judged(verdicts: pd.DataFrame, truth: pd.DataFrame) -> dict[str, Any]:
    """Returns the figures of verdicts against the truth of their callers.

    Args:
        verdicts: columns start (Unix ms), action and "own caller", the number as written.
        truth: columns number and nuisance.
    """
    nuisance = verdicts["own caller"].astype(str).map(truth.astype({"number": str}).set_index("number")["nuisance"])
    flagged = verdicts["action"].astype(str) != "pass"
    later = (verdicts["start"] - verdicts["start"].min()) // 86_400_000 >= FIRST_DAY
    innocent, caught = flagged[later & nuisance.eq(0)], flagged[later & nuisance.eq(1)]
    return {
        "innocent": len(innocent),
        "flagged": int(innocent.sum()),
        "flagged_in_10000": float(innocent.mean() * 1e4),
        "caught": float(caught.mean()),
    }


if __name__ == "__main__":
    main()
