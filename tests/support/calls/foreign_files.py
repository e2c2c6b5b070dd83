"""A simulated world as the files of an operator: own column names, local times, numbers with and without a code."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

ZONE = "Asia/Shanghai"
RESULTS = {"answered": "ANS", "no_answer": "NOANS", "busy": "BUSY", "rejected": "DECL"}
TOPICS = {"loans": "CREDIT", "fraud": "SCAM"}

LAYOUT = """
about = "an operator's call records"
dropped = ["CDR_ID", "TARIFF"]
optional = ["trunk"]
[clock]
zone = "Asia/Shanghai"
formats = ["iso"]
[columns]
caller = ["ANI"]
callee = ["DNIS"]
start = ["SETUP_TIME"]
ring = ["RING_SECS"]
talk = ["DURATION"]
outcome = ["RESULT"]
trunk = ["TRK_GRP"]
[values.outcome]
ANS = "answered"
NOANS = "no_answer"
BUSY = "busy"
DECL = "rejected"
FAIL = "failed"
[complaints]
formats = ["%d.%m.%Y %H:%M:%S"]
[complaints.columns]
reporter = ["complainant"]
number = ["accused"]
at = ["called"]
known_at = ["received"]
category = ["topic"]
[complaints.category]
CREDIT = "loans"
SCAM = "fraud"
MISC = "other"
"""


def texts(table, name):
    """Returns a column as objects, None for null."""
    column = table[name]
    return column.cast(pa.string()).to_pandas().astype(object).where(lambda text: text.notna(), None)


def with_codes(numbers):
    """Writes every other mobile number with its country code."""
    coded = np.arange(len(numbers)) % 2 == 1
    return [
        f"+86{number}" if code and number and len(number) == 11 and number[0] == "1" else number or ""
        for number, code in zip(numbers, coded, strict=True)
    ]


def moments(column, form):
    """Returns a column of times as texts of the zone."""
    return column.to_pandas().dt.tz_convert(ZONE).dt.strftime(form)


def call_frame(world):
    """Returns the calls of a written world with an operator's columns."""
    calls = world.calls
    return pd.DataFrame(
        {
            "CDR_ID": [f"R{row:07}" for row in range(calls.num_rows)],
            "ANI": with_codes(texts(calls, "caller")),
            "DNIS": texts(calls, "callee").fillna(""),
            "SETUP_TIME": moments(calls["start"], "%Y-%m-%d %H:%M:%S"),
            "RING_SECS": calls["ring"].to_pandas().fillna(0).round().astype(int),
            "DURATION": calls["talk"].to_pandas().fillna(0).round().astype(int),
            "RESULT": texts(calls, "outcome").map(RESULTS).fillna("FAIL"),
            "TRK_GRP": texts(calls, "trunk").fillna(""),
            "TARIFF": "basic",
        }
    ).assign(RESULT=lambda frame: frame["RESULT"].where(frame["DURATION"] == 0, "ANS"))


def complaint_frame(world):
    """Returns the complaints of a written world with an operator's columns."""
    complaints = world.complaints
    return pd.DataFrame(
        {
            "complainant": texts(complaints, "reporter"),
            "accused": with_codes(texts(complaints, "number")),
            "called": moments(complaints["at"], "%d.%m.%Y %H:%M:%S"),
            "received": moments(complaints["known_at"], "%d.%m.%Y %H:%M:%S"),
            "topic": texts(complaints, "category").map(TOPICS).fillna("MISC"),
        }
    )


def check_frame(world):
    """Returns checks of two of three numbers of a written world by its truth, and one of a withheld number."""
    numbers = world.numbers.filter(np.arange(world.numbers.num_rows) % 3 > 0)
    first = world.calls["start"].to_pandas().min().tz_convert(ZONE)
    verdict = np.where(numbers["nuisance"].to_numpy(), "nuisance", "innocent")
    checks = pd.DataFrame({"number": texts(numbers, "number"), "verdict": verdict}).drop_duplicates(
        "number", ignore_index=True
    )
    checks.loc[len(checks)] = ["anonymous", "innocent"]
    return checks.assign(checked_at=(first + pd.Timedelta(days=2)).isoformat(timespec="seconds"))


def trusted_frame(world):
    """Returns every third number of a written world as a trusted one, and one with an unknown kind."""
    numbers = texts(world.numbers.filter(np.arange(world.numbers.num_rows) % 3 == 0), "number").drop_duplicates()
    trusted = pd.DataFrame({"number": [*with_codes(list(numbers)), numbers.iloc[0]]})
    return trusted.assign(kind=["customer"] * len(numbers) + ["friend"], trusted_from="2025-01-01")


def write_files(world, folder):
    """Writes cdr.csv, op.toml, complaints.csv, checks.csv and trusted.csv of a written world; returns the folder."""
    folder = Path(folder)
    call_frame(world).to_csv(folder / "cdr.csv", index=False)
    complaint_frame(world).to_csv(folder / "complaints.csv", index=False)
    check_frame(world).to_csv(folder / "checks.csv", index=False)
    trusted_frame(world).to_csv(folder / "trusted.csv", index=False)
    (folder / "op.toml").write_text(LAYOUT, encoding="utf-8")
    return folder
