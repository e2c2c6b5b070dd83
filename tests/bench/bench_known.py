"""Measures whose calls the guards of known callers let pass, whatever their score: `called_first` and `long_talks`.

python -m tests.bench.bench_known 605 611 612 [--size small] [--json]

Each seed gives a simulated world whose assumed behaviour is drawn anew. For innocent callers, for plain nuisance and
for each evasion, prints the share of calls that a guard lets pass, and the share of the called persons who get such a
call. The truth counts as nuisance also what a warmed-up number calls its friends, and a padding number its own lines.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.intake.keyed_table import read_keyed
from callsieve.features.keys.tokens import Key
from callsieve.serving.batch.table_rules import compute_rule_columns, rules_met
from callsieve.serving.rules.policy import read_policy
from callsieve.serving.rules.rule_bits import BITS
from callsieve.serving.rules.rules import KNOWN
from callsieve.training.data.dataset import truth_of_calls
from callsieve.training.model.split import judged_span
from callsieve.training.studies.simulated import simulate_to
from tests.bench.harness import parser_of

INNOCENT, PLAIN = "innocent", "no evasion"


def main() -> None:
    parser = parser_of(__doc__, size="small", json=False)
    parser.add_argument("seeds", type=int, nargs="+")
    options = parser.parse_args()
    worlds = {str(seed): passed(options.size, seed) for seed in options.seeds}
    if options.json:
        print(json.dumps({"worlds": worlds}, indent=1))
        return
    for seed, groups in worlds.items():
        print(f"world {seed}", pd.DataFrame(groups).T.to_string(), sep="\n")


def passed(size: str, seed: int) -> dict[str, dict[str, Any]]:
    """Returns the calls of each kind of caller, and the shares of calls and of called persons that a guard passes."""
    with tempfile.TemporaryDirectory() as folder:
        place, key = Path(folder) / "world", Path(folder) / "key"
        place.mkdir()
        Key("e1", secrets.token_bytes(32)).write(key)
        facts = {"size": size, "seed": seed, "scenario": None, "key": key}
        simulate_to(place, **facts, progress=lambda *_: None, varied=True)
        calls = read_keyed(place / "calls.parquet").sort_by("start")
        truth = truth_of_calls(pq.read_table(place / "truth.parquet"), calls).to_pandas()
    bits = rules_met(calls, compute_rule_columns(calls, 2), None, read_policy().terms)
    table = pd.DataFrame({name: codes(calls[name]) for name in ("caller", "callee")})
    table["passed"] = bits & sum(BITS[name] for name in KNOWN) != 0
    table["kind"] = truth["attack"].astype(object).where(truth["nuisance"], INNOCENT).fillna(PLAIN)
    table = table[calls["start"].to_numpy() >= judged_span(calls)[0]]
    of_calls = table.groupby("kind")["passed"].agg(calls="size", calls_passed="mean")
    of_people = table.groupby(["kind", "caller", "callee"])["passed"].max().groupby("kind").mean()
    return {str(kind): row for kind, row in of_calls.assign(people_passed=of_people).to_dict("index").items()}


def codes(column: pa.ChunkedArray) -> Any:
    return pc.dictionary_encode(column.cast(pa.string())).combine_chunks().indices.to_numpy()


if __name__ == "__main__":
    main()
