"""Files of checked and of trusted numbers, for tests: their key, tokens, moments, and the labels that they lead to."""

import json
import re

import pandas as pd

from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Key
from callsieve.training import read_dataset
from callsieve.training.data.label_policy import read_label_policy
from callsieve.training.data.labels import label_numbers

KEY = Key("e1", b"k" * 32)
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


def assert_quarantined(run_command, command, figures, quarantine, reason, refused):
    """Asserts that rows were refused for a reason, that --strict ends at the first, and that no number is shown."""
    assert figures["quarantined"] == {reason: refused}
    entries = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert {entry["reason"] for entry in entries} == {reason}
    code, out, err = run_command(*command, "--strict")
    assert code == 1 and err.count("\n") == 1 and f": {reason}, expected " in err
    for text in (quarantine.read_text(), json.dumps(figures), out, err):
        assert not RUN_OF_DIGITS.search(text)
