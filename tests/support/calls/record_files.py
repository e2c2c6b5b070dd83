"""Folders of call records that a command reads."""

import csv

from callsieve.features.records import CALL_COLUMNS
from callsieve.serving.custody.purposes import declare
from tests.support import real_bundle


def write_records(calls, folder):
    """Writes calls.csv in the layout "callsieve", number.key, and a declaration for scoring; returns the folder."""
    folder.mkdir()
    with (folder / "calls.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(CALL_COLUMNS)
        for call in calls:
            values = (getattr(call, name) for name in CALL_COLUMNS)
            rows.writerow(["" if value is None else value for value in values])
    declare(folder, "switch of the test", "contract", ["scoring"], "2999-12-31")
    real_bundle.NUMBER_KEY.write(folder / "number.key")
    return folder
