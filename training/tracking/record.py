"""What of a run goes into its record: settings, versions, datasets by fingerprint, metrics of slices, tables as CSV.

`record/` is what a replay starts from: `settings.json`, `versions.json`, `datasets.json`, the gates, the signer's key;
and `reference.json`: what the days of its calls looked like.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from callsieve.features.files.folders import write_whole
from callsieve.features.intake.text_columns import plain
from callsieve.serving.batch.complaint_rows import COMPLAINTS
from callsieve.serving.bundle.signing import SIGNER
from callsieve.training.data.dataset import CAMPAIGNS, EXCLUSIONS, FINDINGS, LISTS, RECYCLED, TRUTH_COLUMNS, Dataset
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.data.label_policy import policy_of
from callsieve.training.model.fit import lightgbm_parameters as settings_of_fit
from callsieve.training.model.matrix import array_hash
from callsieve.training.model.provenance import source_hash, versions
from callsieve.training.model.train import Settings, Trained
from callsieve.training.reports.run_page import one_in, share

SETTINGS, VERSIONS, DATASETS, GATES = "settings.json", "versions.json", "datasets.json", "gates.toml"
NUMBERS_OF_SLICE = ("calls", "callers", "flagged", "rate", "low", "high", "bound")


def settings_json(settings: Settings) -> dict[str, Any]:
    """Settings as plain values; `threads` is left out, for nothing depends on it."""
    told = {name: getattr(settings, name) for name in Settings.__dataclass_fields__ if name != "threads"}
    return told | {"label_policy": settings.label_policy.to_json(), "features": list(settings.features)}


def settings_of(told: Mapping[str, Any], threads: int) -> Settings:
    """The settings of a record.

    Raises:
        ValueError: if a field is missing or unknown.
    """
    try:
        read = {**told, "label_policy": policy_of(told["label_policy"]), "features": tuple(told["features"])}
        return Settings(**read, threads=threads)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{SETTINGS}: expected the settings of this version of callsieve: {error}") from None


def datasets(trained: Trained, source: str) -> dict[str, dict[str, Any]]:
    """Every table of the run, with SHA-256 over the whole of it.

    Returns: by name: `sha256`, `rows`, `source` and `context`, "training" or "evaluation".
    """
    told = {"calls": (trained.dataset.fingerprint, trained.dataset.calls.num_rows, "training")}
    told |= {name: (fingerprint(table), table.num_rows, context) for name, table, context in tables(trained.dataset)}
    told["vectors"] = (array_hash([trained.feed.rows, trained.feed.X]), len(trained.feed.rows), "training")
    for name, sha256 in trained.fitted["sides"].items():
        told[f"labelled {name}"] = (sha256, trained.fitted["rows"][name], "training")
    return {
        name: {"sha256": sha256, "rows": rows, "source": source, "context": context}
        for name, (sha256, rows, context) in told.items()
    }


def tables(dataset: Dataset) -> Iterable[tuple[str, pa.Table, str]]:
    """Everything beside the calls that a model or its split comes from, in one form, whatever it was read from."""
    said = {
        "complaints": COMPLAINTS,
        "findings": FINDINGS,
        "recycled": RECYCLED,
        "lists": LISTS,
        "campaigns": CAMPAIGNS,
        "exclusions": EXCLUSIONS,
    }
    for name, schema in said.items():
        frame = getattr(dataset, name)
        kept = [field for field in schema if field.name in frame]
        yield name, pa.table({field.name: arrow(frame[field.name], field.type) for field in kept}), "training"
    if dataset.truth is not None:
        # The split keeps campaigns together: what they are decides who is learnt from.
        names = [*TRUTH_COLUMNS, *(name for name in ("campaign",) if name in dataset.truth.column_names)]
        yield "truth", pa.table([plain(dataset.truth[name]) for name in names], names=names), "evaluation"


def arrow(column: pd.Series, kind: pa.DataType) -> pa.Array:
    """A column of a frame as Arrow."""
    if pa.types.is_timestamp(kind):
        plain = column.dt.tz_convert(None).to_numpy()
        return pa.array(plain, from_pandas=True).cast(pa.timestamp(kind.unit), safe=False).cast(kind)
    return pa.array(column.to_numpy(), kind, from_pandas=True)


def write_record(
    folder: Path, settings: Settings, told: Mapping[str, Any], code: Mapping[str, str], gates: bytes, signer: Path
) -> None:
    """The folder that a replay starts from.

    Args:
        told: as from `datasets`.
        code: as from `provenance.commit`, asked as the run began.
    """
    folder.mkdir()
    installed = {one.name: one.version for one in distributions() if one.name}
    made_by = {"decisive": versions(), **code, "source_sha256": source_hash(), "installed": installed}
    for name, value in ((SETTINGS, settings_json(settings)), (VERSIONS, made_by), (DATASETS, dict(told))):
        text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        write_whole(folder / name, (text + "\n").encode())
    write_whole(folder / GATES, gates)
    shutil.copyfile(signer, folder / SIGNER)


def read_record(folder: Path, name: str) -> dict[str, Any]:
    """A file of the record in a run's folder.

    Raises:
        ValueError: in one line, if it is not there or no JSON.
    """
    path = folder / "record" / name
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected the record of a run: {error}") from None
    return told


def parameters(settings: Settings, figures: Mapping[str, Any]) -> dict[str, Any]:
    """What the run was told to do."""
    policy = settings.label_policy.to_json()
    return {
        **{
            name: value
            for name, value in asdict(settings).items()
            if name not in ("features", "label_policy", "parameters")
        },
        "features": len(settings.features),  # their names are in settings.json and in the bundle
        "label_policy": settings.label_policy.version,
        "calls": figures["data"]["calls"],
        "days": figures["data"]["days"],
        **{f"label_policy.{name}": value for name, value in policy.items() if name != "version"},
        **{f"lightgbm_{name}": value for name, value in of_lightgbm(settings, figures["rows"]["train"]).items()},
    }


def of_lightgbm(settings: Settings, rows: int) -> dict[str, Any]:
    """What LightGBM was told of the yes-no model, but for what changes no model; each member has a seed of its own.

    Args:
        rows: that were learnt from.
    """
    told = settings_of_fit(rows, classes=1, seed=settings.seed, threads=0, parameters=settings.parameters)
    return {name: value for name, value in told.items() if name not in ("seed", "num_threads", "verbosity")}


def tags(figures: Mapping[str, Any]) -> dict[str, str]:
    """What identifies the run's inputs and code."""
    return {
        "data_sha256": figures["data"]["fingerprint"],
        "catalogue_sha256": figures["catalogue"],
        "gates_sha256": figures["gates"]["sha256"],
        "model_id": figures["model"]["id"],
        "source_sha256": source_hash(),
        "certified": str(figures["headline"]["model"]["certified"]).lower(),
        **{f"version.{name}": version for name, version in versions().items() if name != "source"},
        **figures["code"],
        "mlflow.note.content": description(figures),  # what MLflow's page of the run says first
    }


def description(figures: Mapping[str, Any]) -> str:
    """What a model is worth, in Markdown, and where to read on."""
    head = figures["headline"]["model"]
    one = head["catch"]["call"]
    certified = "certified" if head["certified"] else "not certified"
    return (
        f"**{certified}**: it flagged {head['false_calls']:,} of {head['benign_calls']:,} innocent calls that it had "
        f"not learnt from, so with 95 % confidence at most {one_in(head['bound'])}; the target is "
        f"{one_in(head['target'])}. It caught {share(one['rate'])} of the nuisance calls ({share(one['low'])} to "
        f"{share(one['high'])}). Judged on {figures['data']['judged_on']} ({figures['data']['source']}).\n\n"
        "Among the artifacts: `report/report.html`, `report/audit.html`, `documents/model_card.md`."
    )


def slice_metrics(figures: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of each slice as flat metrics, such as "slice/courier/bound"; what was not measured is left out."""
    found: dict[str, float] = {}
    for one in figures["slices"]:
        name = re.sub(r"[^\w .:-]", "-", one["slice"], flags=re.ASCII)
        kind = "nuisance" if one["nuisance"] else "benign"
        told = {key: one[key] for key in NUMBERS_OF_SLICE} | {"certified": one["certified"]}
        found |= {f"slice/{kind}/{name}/{key}": float(value) for key, value in told.items() if value is not None}
    for one in figures["buckets"]:
        if one["catch"] is not None:
            found[f"bucket/{one['bucket']}/catch"] = float(one["catch"])
    for one in figures["kinds"]:
        found |= {f"kind/{one['kind']}/{key}": one[key] for key in ("right", "commonest", "sure")}
    for one in figures["attacks"]:
        told = {
            "caught": one["caught"]["rate"],
            "calls_through_a_number": one["calls_through_a_number"]["mean"],
            "calls_through_a_number_of_a_known_group": one["known_group"]["calls_through_a_number"]["mean"],
        }
        found |= {f"attack/{one['attack']}/{key}": float(value) for key, value in told.items() if value is not None}
    return found


def write_tables(figures: Mapping[str, Any], folder: Path) -> None:
    """Curves and tables of the run as CSV files, one for each that was measured."""
    folder.mkdir()
    for name in ("slices", "buckets", "precision_at_prior"):
        _write_rows(folder / f"{name}.csv", figures[name])
    _write_rows(folder / "reliability.csv", figures["reliability"]["bins"])
    _write_rows(folder / "reliability_by.csv", figures["reliability_by"])
    _write_rows(folder / "kinds.csv", figures["kinds"])
    _write_rows(folder / "attacks.csv", [flat(one) for one in figures["attacks"]])
    _write_rows(folder / "top_features.csv", figures["model"]["top_features"])
    ways = figures["headline"] | figures["baselines"]
    _write_rows(folder / "baselines.csv", [{"way": name} | way_told(one) for name, one in ways.items()])
    for who, points in figures["curve"].items():
        _write_rows(
            folder / f"curve_{who}.csv", [dict(zip(("error", "catch"), point, strict=True)) for point in points]
        )
    columns = figures["detection_curve"]
    detection = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    _write_rows(folder / "detection.csv", detection)


def way_told(headline: Mapping[str, Any]) -> dict[str, Any]:
    """The headline of one way to score as a row: what every way has, the same names in the same order."""
    low, high = headline["bootstrap"]
    named = {name: one for name, one in headline.items() if name not in ("bootstrap", "rule")}
    return flat(named | {"bootstrap": {"low": low, "high": high}})


def flat(told: Mapping[str, Any]) -> dict[str, Any]:
    """A nest of figures as one row of a table, such as "detection.median"."""
    row: dict[str, Any] = {}
    for name, value in told.items():
        row |= (
            {f"{name}.{key}": one for key, one in flat(value).items()} if isinstance(value, Mapping) else {name: value}
        )
    return row


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(path, text.getvalue().encode())
