"""Labels of numbers from reports and findings, as known at a cutoff, by a versioned policy.

A label row says what a number is held to be (`nuisance`, `content`, `mode`), since when (`event_time`), since when that
was known (`known_at`), on what grounds (`source`, `confidence`), and by which `policy`.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

COLUMNS = ("number", "nuisance", "content", "mode", "event_time", "known_at", "source", "confidence", "policy")


@dataclass(frozen=True, slots=True)
class LabelPolicy:
    """The rules of `labels.toml`."""

    version: str
    effective: date
    finding_confidence: float
    minimum_reporters: int
    minimum_share: float
    report_confidence: float
    against: tuple[str, ...]
    unreported_confidence: float
    unreported_most_calls: int

    def to_json(self) -> dict[str, Any]:
        """The policy as plain JSON values."""
        return asdict(self) | {"effective": self.effective.isoformat(), "against": list(self.against)}


def read_label_policy(path: Path | None = None) -> LabelPolicy:
    """Read a label policy; the shipped one if no path is given.

    Raises:
        ValueError: in one line, if the file is not a label policy.
    """
    try:
        text = path.read_text() if path else files(__package__).joinpath("labels.toml").read_text()
        table = tomllib.loads(text)
        return LabelPolicy(
            version=str(table["version"]),
            effective=date.fromisoformat(str(table["effective"])),
            finding_confidence=float(table["findings"]["confidence"]),
            minimum_reporters=int(table["reports"]["minimum_reporters"]),
            minimum_share=float(table["reports"]["minimum_share"]),
            report_confidence=float(table["reports"]["confidence"]),
            against=tuple(str(word) for word in table["reports"]["against"]),
            unreported_confidence=float(table["unreported"]["confidence"]),
            unreported_most_calls=int(table["unreported"]["most_calls_in_a_day"]),
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected a label policy like the shipped labels.toml, {error!r}") from error


def label_numbers(
    busiest: pd.Series, reports: pd.DataFrame, findings: pd.DataFrame, cutoff: pd.Timestamp, policy: LabelPolicy
) -> pd.DataFrame:
    """What each number is held to be at `cutoff`.

    Args:
        busiest: most calls that each number made in a day, by token, of the numbers seen by then.
        reports: reporter, number, at, known_at, category, and mode where the reporter could tell.
        findings: number, nuisance, known_at.
    Returns: one row a number, columns COLUMNS. A reported number without enough grounds has no row.
    """
    findings = findings[findings["known_at"] <= cutoff]
    reports = reports[reports["known_at"] <= cutoff]
    found = _from_findings(findings, policy)
    reported = _from_reports(reports[~reports["number"].isin(found["number"])], policy)
    spoken_of = pd.concat([found["number"], reports["number"]])
    quiet = busiest.index[busiest <= policy.unreported_most_calls]
    rest = _unreported(quiet[~quiet.isin(spoken_of)], cutoff, policy)
    labels = pd.concat([found, reported, rest], ignore_index=True)
    kinds = _kinds(reports, policy)
    labels = labels.merge(kinds, how="left", left_on="number", right_index=True)
    labels.loc[~labels["nuisance"], ["content", "mode"]] = None
    return labels.assign(policy=policy.version)[list(COLUMNS)]


def _from_findings(findings: pd.DataFrame, policy: LabelPolicy) -> pd.DataFrame:
    last = findings.sort_values("known_at", kind="stable").drop_duplicates("number", keep="last")
    return pd.DataFrame(
        {
            "number": last["number"].astype("object"),
            "nuisance": last["nuisance"].astype(bool),
            "event_time": last["known_at"],
            "known_at": last["known_at"],
            "source": "finding",
            "confidence": policy.finding_confidence,
        }
    )


def _from_reports(reports: pd.DataFrame, policy: LabelPolicy) -> pd.DataFrame:
    # One voice a person: who reports a number ten times counts once.
    voices = reports.sort_values("known_at", kind="stable").drop_duplicates(["number", "reporter"])
    against = voices["category"].isin(policy.against)
    by_number = voices.assign(against=against).groupby("number", observed=True)
    counts = by_number.agg(
        against=("against", "sum"), share=("against", "mean"), event_time=("at", "min"), known_at=("known_at", "max")
    )
    enough = (counts["against"] >= policy.minimum_reporters) & (counts["share"] >= policy.minimum_share)
    chosen = counts[enough]
    return pd.DataFrame(
        {
            "number": chosen.index.astype("object"),
            "nuisance": True,
            "event_time": chosen["event_time"].to_numpy(),
            "known_at": chosen["known_at"].to_numpy(),
            "source": "reports",
            "confidence": policy.report_confidence,
        }
    )


def _unreported(numbers: pd.Index, cutoff: pd.Timestamp, policy: LabelPolicy) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number": numbers.astype("object"),
            "nuisance": False,
            "event_time": cutoff,
            "known_at": cutoff,
            "source": "unreported",
            "confidence": policy.unreported_confidence,
        }
    )


def _kinds(reports: pd.DataFrame, policy: LabelPolicy) -> pd.DataFrame:
    """The content and the mode that most reporters of a number named."""
    against = reports[reports["category"].isin(policy.against)].sort_values("known_at", kind="stable")
    against = against.drop_duplicates(["number", "reporter"])
    most = lambda values: values.mode().iloc[0] if values.notna().any() else None  # noqa: E731
    by_number = against.groupby("number", observed=True)
    kinds = pd.DataFrame({"content": by_number["category"].agg(most)})
    kinds["mode"] = by_number["mode"].agg(most) if "mode" in against else None
    return kinds


def busiest_days(calls: pa.Table, cutoff: pd.Timestamp) -> pd.Series:
    """The most calls that each caller made in a local day, from the calls that started before the cutoff."""
    known = calls.filter(pc.less(calls["start"], int(cutoff.timestamp() * 1000)))
    by_day = known.select(["caller", "day"]).group_by(["caller", "day"]).aggregate([([], "count_all")])
    most = by_day.group_by("caller").aggregate([("count_all", "max")])
    tokens = pc.dictionary_decode(most["caller"].combine_chunks())
    return pd.Series(most["count_all_max"].to_numpy(), index=pd.Index(tokens.to_numpy(zero_copy_only=False)))
