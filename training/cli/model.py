"""The command that carries a model elsewhere: into MLflow, onto handsets. Thin: each step has its module."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callsieve.serving.cli.options import Json, Trust

commands = typer.Typer()


@commands.command()
def export(
    bundle: Annotated[Path, typer.Argument(help="Folder of a signed bundle.")],
    mlflow: Annotated[Path | None, typer.Option(help="New folder, for `mlflow models serve` and Spark.")] = None,
    onnx: Annotated[Path | None, typer.Option(help="New file, for a handset: of the yes-no model alone.")] = None,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Write a verified bundle as an MLflow model, or as ONNX with its numeric difference told."""
    from callsieve.serving.bundle.signing import signer_path
    from callsieve.serving.cli import console

    if mlflow is not None and onnx is None:
        _to_mlflow(bundle, mlflow, signer_path(bundle, trust), json)
    elif onnx is not None and mlflow is None:
        _to_onnx(bundle, onnx, signer_path(bundle, trust), json)
    else:
        console.fail("export: expected either --mlflow FOLDER or --onnx FILE", code=2)


def _to_mlflow(bundle: Path, folder: Path, signer: Path, json: bool) -> None:
    from callsieve.serving.cli import console
    from callsieve.training.tracking.mlflow_model import TRUST, save_model

    save_model(bundle, folder, signer=signer)
    next_step = f"{TRUST}={signer} mlflow models serve -m {folder} --env-manager local"
    console.emit_json({"mlflow": str(folder)}) if json else console.say(f"{folder}: written\nnext     {next_step}")


def _to_onnx(bundle: Path, file: Path, signer: Path, json: bool) -> None:
    from callsieve.serving.cli import console
    from callsieve.training.tracking.onnx_export import export as write

    found = write(bundle, file, signer=signer)
    if json:
        console.emit_json(found)
        return
    console.say(f"{file}: model {found['model']}, {len(found['features'])} features, {found['bytes']:,} bytes")
    rows = [
        (
            name, f"{told['rows']:,}", f"{told['raw']:.1e}", f"{told['probability']:.1e}", str(told["bands"]),
            f"{told['float32_raw']:.1e}", str(told["float32_bands"]),
        )
        for name in ("golden", "thresholds") for told in [found[name]]
    ]  # fmt: skip
    head = ("rows", "number", "raw score", "probability", "other bands", "raw, from float32", "other bands")
    console.show_table("largest differences from the bundle", head, rows)
