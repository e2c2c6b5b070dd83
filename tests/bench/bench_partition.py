"""Measures what processes that share the callers flag, against one process that sees every call. Run by hand.

python -m tests.bench.bench_partition [--processes 2,4] [--size small] [--days 16] [--seed 5]

A call goes to the process of its caller, which scores it, or also to the process of its callee, which records it. The
shipped model scores the calls of the last days of a simulated world, each process on its own calls alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from callsieve.features.intake.partition import partition
from callsieve.features.offline.table import vectors
from callsieve.features.online.feeds import feed_of_table
from callsieve.serving import Scorer
from tests.bench.harness import parser_of, simulated_world

FILLING_MS = 8 * 86_400_000  # bands do not apply to calls of the first days


def main() -> None:
    """Prints a line for each number of processes and way to share the calls."""
    parser = parser_of(__doc__, processes="2,4", size="small", days=16, seed=5)
    options = parser.parse_args()
    world, scorer = simulated_world(options.size, options.seed, days=options.days), Scorer.load()
    start = world.calls["start"].to_numpy()
    counted = start >= start.min() + FILLING_MS
    nuisance = world.truth["nuisance"].to_numpy(zero_copy_only=False)
    for count in (1, *map(int, options.processes.split(","))):
        for both in (False, True) if count > 1 else (True,):
            flagged, feeds = flags(scorer, world.calls, count, both=both, counted=counted)
            innocent, caught = (flagged & ~nuisance).sum(), (flagged & nuisance).sum()
            benign = (counted & ~nuisance).sum()
            print(
                f"{count} processes, {'caller and callee' if both else 'caller alone'}:"
                f" innocent calls flagged {innocent:,} of {benign:,} ({1e4 * innocent / benign:.2f} in 10,000),"
                f" nuisance calls caught {100 * caught / (counted & nuisance).sum():.0f} %, feeds {', '.join(feeds)}",
                flush=True,
            )


def flags(scorer: Scorer, calls: pa.Table, count: int, *, both: bool, counted: np.ndarray) -> tuple[Any, list[str]]:
    """Returns which calls reach a band, shape (n,), and the feeds that the processes recognise.

    Args:
        both: whether the process of the callee records a call, too.
        counted: the calls whose bands apply, shape (n,).
    """
    caller, callee = (partitions(calls[name], count) for name in ("caller", "callee"))
    flagged, feeds = np.zeros(calls.num_rows, dtype=bool), set()
    for process in range(count):
        seen = np.flatnonzero((caller == process) | (both & (callee == process)))
        rows = np.flatnonzero(((caller == process) & counted)[seen])
        own = calls.take(pa.array(seen))
        feed = feed_of_table(own)
        feeds.add(feed)
        scores = scorer.score_table(vectors(own, rows=rows, features=tuple(scorer.features), threads=1), feed=feed)
        flagged[seen[rows]] = scores.band_action > 0
    return flagged, sorted(feeds)


def partitions(tokens: Any, count: int) -> np.ndarray:
    """Returns the partition of each token, shape (n,)."""
    encoded = tokens.cast(pa.string()).combine_chunks().dictionary_encode()
    by_token = np.array([partition(token, count) for token in encoded.dictionary.to_pylist()])
    return by_token[encoded.indices.to_numpy()]


if __name__ == "__main__":
    main()
