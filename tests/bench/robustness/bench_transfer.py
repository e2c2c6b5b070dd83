"""Judges bundles on another network, such as one of a simulator that shares no code with the project's own.

python -m tests.bench.robustness.bench_transfer FOLDER... [--bundles serving/shipped/bundle,OWN] [--json]

Each folder has calls.parquet (the layout `callsieve`) and truth.parquet: number, slice (its kind), nuisance (0 or 1).
Each bundle scores the calls of each folder. Judged are the calls from the ninth day on whose caller's truth is known:
innocent calls flagged, nuisance calls caught, the area under the ROC curve, and the catch of a threshold chosen in
hindsight at 1 in 10,000 innocent calls; by number: innocent numbers flagged, nuisance numbers detected, and the call
that detects half of these. A call is flagged if its action is not "pass", so rules count, too. Several bundles stand
side by side, such as the shipped one and one that was adapted to the network.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from callsieve.features.files.progress import silent
from callsieve.serving.batch.call_files import CallFile
from callsieve.serving.batch.file_scoring import ScoreInputs, score_file
from tests.bench.harness import parser_of, show

TARGET = 1e-4  # of innocent calls
FIRST_DAY = 8  # days before it are history


def main() -> None:
    """Prints the figures of each folder and bundle."""
    parser = parser_of(__doc__, bundles="serving/shipped/bundle", json=False)
    parser.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args()
    bundles = [Path(name) for name in options.bundles.split(",")]
    report = {folder.name: {str(bundle): transfer(folder, bundle) for bundle in bundles} for folder in options.folders}
    show(report, as_json=options.json)


def transfer(folder: Path, bundle: Path, policy: Path | None = None) -> dict[str, Any]:
    """Returns the figures of a bundle on the calls of a folder, by the shipped policy or by another one."""
    with tempfile.TemporaryDirectory() as work:
        out = Path(work, "verdicts.parquet")
        calls = CallFile(path=folder / "calls.parquet", layout="callsieve")
        inputs = ScoreInputs(calls=calls, bundle=bundle, out=out, keep=("caller",), policy=policy)
        feed = score_file(inputs, threads=0, progress=silent)["feed"]
        verdicts = pd.read_parquet(out, columns=["start", "probability", "action", "status", "own caller"])
    return {"feed": feed} | judged(verdicts, pd.read_parquet(folder / "truth.parquet"))


def judged(verdicts: pd.DataFrame, truth: pd.DataFrame) -> dict[str, Any]:
    """Returns the figures of verdicts against the truth of their callers.

    Args:
        verdicts: columns start (Unix ms), probability, action, status and "own caller", the number as written.
        truth: columns number, slice and nuisance.
    """
    of_number = truth.astype({"number": str}).set_index("number")
    calls = pd.DataFrame({"caller": verdicts["own caller"].astype(str), "start": verdicts["start"]})
    calls["kind"], calls["nuisance"] = (
        calls["caller"].map(of_number["slice"]),
        calls["caller"].map(of_number["nuisance"]),
    )
    calls["flagged"], calls["score"] = verdicts["action"].astype(str) != "pass", verdicts["probability"].fillna(0.0)
    calls["status"] = verdicts["status"].astype(str)
    day = (calls["start"] - calls["start"].min()) // 86_400_000
    calls = calls[(day >= FIRST_DAY) & calls["nuisance"].notna()].sort_values("start", kind="stable")
    bad = calls["nuisance"].to_numpy() == 1
    innocent, nuisance = calls[~bad], calls[bad]
    highest = np.sort(innocent["score"])[::-1]
    edge = highest[int(TARGET * len(innocent))]
    call = calls.groupby("caller").cumcount() + 1
    detected = call[calls["flagged"] & bad].groupby(calls["caller"]).min()
    return {
        "calls": {
            "innocent": len(innocent),
            "flagged": int(innocent["flagged"].sum()),
            "flagged_in_10000": float(innocent["flagged"].mean() * 1e4),
            "caught": float(nuisance["flagged"].mean()),
            "auc": float(roc_auc_score(bad, calls["score"])),
            "caught_in_hindsight": float((nuisance["score"] > edge).mean()),
        },
        "numbers": {
            "innocent_flagged": int(innocent.groupby("caller")["flagged"].any().sum()),
            "nuisance": nuisance["caller"].nunique(),
            "detected": len(detected),
            "half_detected_by_call": _median(detected, nuisance["caller"].nunique()),
        },
        "flagged_by_kind": calls.groupby("kind")["flagged"].mean().round(4).to_dict(),
        "status": calls["status"].value_counts().to_dict(),
    }


def _median(detected: pd.Series, numbers: int) -> int | None:
    """Returns the call by which half of all numbers are detected; None if fewer are."""
    calls = np.sort(detected.to_numpy())
    half = -(-numbers // 2)
    return int(calls[half - 1]) if 0 < half <= len(calls) else None


if __name__ == "__main__":
    main()
