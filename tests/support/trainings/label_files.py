"""Files of checked and of trusted numbers, for tests: their key, tokens, moments, and the labels that they lead to."""

import json
import re

import pandas as pd
import pyarrow.parquet as pq

from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Key
from callsieve.training import read_dataset
from callsieve.training.data.label_policy import read_label_policy
from callsieve.training.data.labels import label_numbers

KEY = Key("e1", b"k" * 32)
NUISANCE, INNOCENT = "95013123456", "13900139000"
# Of each kind of file: its header, a good row, and the table that its rows are added to.
HEADS = {"checks": "number,verdict,checked_at", "trusted": "number,kind,trusted_from,trusted_to"}
GOOD = {
    "checks": f"{NUISANCE},nuisance,2025-03-04T10:00:00Z",
    "trusted": f"{NUISANCE},survey,2025-03-04T10:00:00Z,",
}
TABLES = {"checks": "findings.parquet", "trusted": "lists.parquet"}
RUN_OF_DIGITS = re.compile(r"(?!9{7})[0-9]{7}")  # a shape has a 9 for each digit


def token(number, key=KEY):
    """Returns the token of a number as written."""
    return Intake(key).token("number", number)


def moment(text):
    """Returns a moment in UTC."""
    return pd.Timestamp(text, tz="UTC")


def labelled(folder, number, cutoff):
    """Returns the label of a number in a folder of keyed tables at a cutoff: its verdict and source, None for none."""
    labels = label_numbers(read_dataset(folder), cutoff, read_label_policy()).set_index("number")
    return tuple(labels.loc[number, ["nuisance", "source"]]) if number in labels.index else None


def command(kind, folder, *lines, head=None):
    """Writes a file of a kind; returns the words of the command that reads it."""
    path = folder / f"{kind}.csv"
    path.write_text("\n".join([head or HEADS[kind], *lines]) + "\n", encoding="utf-8")
    return ("ingest", kind, *(("--checks", path) if kind == "checks" else (path,)))


def ingester(run_command, folder, kind):
    """Returns a function that runs `ingest checks` or `ingest trusted` on lines; it returns figures and table."""
    KEY.write(folder / "number.key")
    table = folder / TABLES[kind]

    def run(*lines, head=None, layout="callsieve", options=()):
        out = table if kind == "checks" else folder
        words = ("--layout", layout, "--key", folder / "number.key", "--out", out, "--json", *options)
        code, out, err = run_command(*command(kind, folder, *lines, head=head), *words)
        assert code == 0, err
        return json.loads(out), pq.read_table(table)

    return run
