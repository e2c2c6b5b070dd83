"""The bill of materials of a model (ML-BOM), in CycloneDX 1.6: model card, files, tables and packages.

It has the fields of the model card and the inputs of the provenance, for software that reads bills. It names no time
and no path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from callsieve.features.files.atomic import sha256, write_atomic
from callsieve.features.files.strict_json import encode
from callsieve.training.judging.run_figures import DatasetEntry, RunFigures
from callsieve.training.language import gettext
from callsieve.training.model.provenance import versions

from .headline_list import HEADLINE
from .model_card import kind_of, model_card

Fields = dict[str, object]


def write_ml_bom(figures: RunFigures, datasets: Mapping[str, DatasetEntry], folder: Path) -> None:
    """Writes `documents/ml_bom.json` into the folder of a run that has a bundle, in the language in force."""
    decisive = versions()
    source = decisive.pop("source")
    libraries = [_library(name, version) for name, version in decisive.items()]
    tables = [_table(name, entry) for name, entry in datasets.items()]
    adapted = figures["adapted"]
    base = [] if adapted is None else [_model(adapted["base"], adapted["manifest"])]
    model = {
        **_model(figures["model"]["id"], sha256(folder / "bundle" / "MANIFEST.json")),
        "bom-ref": "model",
        "modelCard": _model_card(figures, [table["bom-ref"] for table in tables]),
        "components": [_file(path) for path in sorted((folder / "bundle").iterdir())],
        "properties": [_property("callsieveSource", source)],
        **({"pedigree": {"ancestors": base}} if base else {}),
    }
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": model},
        "components": [*libraries, *tables],
        "dependencies": [{"ref": "model", "dependsOn": [library["bom-ref"] for library in libraries]}],
    }
    write_atomic(folder / "documents" / "ml_bom.json", encode(bill))


def _model(name: str, manifest: str) -> Fields:
    """Returns the component of a bundle: its id, and the SHA-256 of its manifest."""
    return {"type": "machine-learning-model", "name": "callsieve-bundle", "version": name, "hashes": _hashes(manifest)}


def _model_card(figures: RunFigures, tables: list[object]) -> Fields:
    """Returns the model card: kind, tables, figures with intervals, use and limits; as properties, all its fields."""
    card = model_card(figures)
    use, responsibility = card[gettext("Intended use")], card[gettext("Responsibility")]
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "classification",
            "modelArchitecture": kind_of(figures["model"]),
            "datasets": [{"ref": table} for table in tables],
        },
        "quantitativeAnalysis": {"performanceMetrics": [*_metrics(figures), *_slices(figures)]},
        "considerations": {
            "users": [str(responsibility[gettext("Intended users")])],
            "useCases": [str(use[gettext("For")])],
            "technicalLimitations": [f"{name}: {text}" for name, text in card[gettext("Limits")].items()],
            "ethicalConsiderations": [
                {
                    "name": str(use[gettext("Not for")]),
                    "mitigationStrategy": str(responsibility[gettext("Human oversight")]),
                }
            ],
        },
        "properties": [
            _property(f"{heading}: {name}", str(text))
            for heading, fields in card.items()
            for name, text in fields.items()
        ],
    }


def _metrics(figures: RunFigures) -> Iterator[Fields]:
    """Yields the figures of the headline that have a value, by the names that MLflow has."""
    head = figures["headline"]["model"]
    values = {name: value for figure in HEADLINE for name, value in figure.metrics(head).items() if value is not None}
    for name, value in values.items():
        if name.removesuffix("_low").removesuffix("_high") == name:
            metric: Fields = {"type": name, "value": str(value)}
            if f"{name}_low" in values:
                bounds = {"lowerBound": str(values[f"{name}_low"]), "upperBound": str(values[f"{name}_high"])}
                metric["confidenceInterval"] = bounds
            yield metric


def _slices(figures: RunFigures) -> Iterator[Fields]:
    """Yields the share of flagged calls by kind of caller."""
    for row in figures["slices"]:
        if row["calls"]:
            yield {"type": "flagged_share", "value": str(row["flagged"] / row["calls"]), "slice": row["slice"]}


def _library(name: str, version: str) -> Fields:
    purl = f"pkg:{'generic' if name == 'python' else 'pypi'}/{name}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _table(name: str, entry: DatasetEntry) -> Fields:
    """Returns a table; the hash is a property, because it covers values and not the bytes of a file."""
    purpose = [_property("purpose", entry["purpose"])] if "purpose" in entry else []
    known = [_property("callsieveTable", entry["sha256"]), _property("rows", str(entry["rows"])), *purpose]
    return {
        "type": "data",
        "bom-ref": f"table {name}",
        "name": name,
        "data": [{"type": "dataset", "name": name}],
        "properties": known,
    }


def _file(path: Path) -> Fields:
    return {"type": "file", "name": path.name, "hashes": _hashes(sha256(path))}


def _hashes(digest: str) -> list[Fields]:
    return [{"alg": "SHA-256", "content": digest}]


def _property(name: str, value: str) -> Fields:
    return {"name": f"callsieve:{name}", "value": value}
