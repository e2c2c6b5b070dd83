"""States how a bundle was made, as SLSA provenance: settings, tables by fingerprint, source, versions of packages.

The model card and the datasheet are its by-products, so the signature covers them, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.features.files.atomic import sha256
from callsieve.features.files.dates import utc_text
from callsieve.serving.bundle.attestation import write_attestation
from callsieve.serving.bundle.signing import key_id
from callsieve.training.adapt.adapted_figures import AdaptedFigures
from callsieve.training.judging.run_figures import DatasetEntry
from callsieve.training.model.provenance import versions

from .record import settings_json
from .run_values import FinishedRun

# docs/reference/bundle.md describes the fields of this type and its two own digests.
BUILD_TYPE = "pkg:pypi/callsieve#train/v1"
TABLE_DIGEST, SOURCE_DIGEST = "callsieveTable", "callsieveSource"


def write_provenance(run: FinishedRun, key: Ed25519PrivateKey, roles: Sequence[str], invocation: str) -> None:
    """Writes the statement beside the bundle of a run; it names no path of this machine."""
    decisive, code = versions(), run.figures["code"]
    source = {SOURCE_DIGEST: decisive.pop("source")}
    if code.get("dirty") == "false":
        source["gitCommit"] = code["commit"]
    packages = {name: _package(name, version) for name, version in decisive.items()}
    packages["callsieve"]["digest"] = source
    # Tables without a purpose are what the training made of the others, such as the vectors.
    tables = [_table(name, entry) for name, entry in run.datasets.items() if "purpose" in entry]
    base = run.figures["adapted"]
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"settings": settings_json(run.settings), "roles": list(roles)},
            "resolvedDependencies": [*packages.values(), *([] if base is None else [_base(base)]), *tables],
        },
        "runDetails": {
            "builder": {
                "id": f"pkg:pypi/callsieve#signer/{key_id(key.public_key())}",
                "version": {"callsieve": decisive["callsieve"]},
            },
            "metadata": {"invocationId": invocation, "startedOn": utc_text(1000 * run.began), "finishedOn": utc_text()},
            "byproducts": [
                {"name": path.relative_to(run.folder).as_posix(), "digest": {"sha256": sha256(path)}}
                for path in sorted((run.folder / "documents").glob("*.*"))
            ],
        },
    }
    write_attestation(run.folder / "bundle", predicate, key)


def _package(name: str, version: str) -> dict[str, object]:
    kind = "generic" if name == "python" else "pypi"
    return {"name": name, "uri": f"pkg:{kind}/{name}@{version}"}


def _base(adapted: AdaptedFigures) -> dict[str, object]:
    uri = f"pkg:generic/callsieve-bundle@{adapted['base']}"
    return {"name": "base bundle", "uri": uri, "digest": {"sha256": adapted["manifest"]}}


def _table(name: str, entry: DatasetEntry) -> dict[str, object]:
    return {"name": name, "digest": {TABLE_DIGEST: entry["sha256"]}, "annotations": {"rows": entry["rows"]}}
