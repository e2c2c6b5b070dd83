"""The statement of the simulator in a folder of calls that a test made."""

import json

from callsieve.serving.custody.purposes import calls_hash


def mark_simulated(folder):
    """States that the calls of a folder, as they are now, are simulated."""
    calls = folder / "calls.parquet"
    facts = {
        "seed": "1",
        "size": "tiny",
        "scenario": "0" * 64,
        "calls": calls_hash(calls) if calls.exists() else "0" * 64,
    }
    (folder / "world.json").write_text(json.dumps(facts))
