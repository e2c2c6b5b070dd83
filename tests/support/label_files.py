"""Files of checked and of trusted numbers, for tests: their key, tokens, moments, and the labels that they lead to."""

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
