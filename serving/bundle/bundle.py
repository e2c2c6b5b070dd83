"""What a model is on disk, and how it is opened: a folder of text, signed as a whole.

    model.txt      the yes-no model, as LightGBM writes it
    content.txt    optional: which kind of nuisance (one of the card's classes)
    mode.txt       optional: who or what is calling
    bundle.json    the card: features, calibration, thresholds with certificates, golden vectors, ...
    MANIFEST.json  SHA-256 and size of every file above
    MANIFEST.sig   Ed25519 signature over the bytes of MANIFEST.json

No pickle and no code. Files are read once, and all that is checked is checked on those bytes, in this order:
signature, hashes, card, structure of every model, and only then LightGBM, which must give the golden scores
bit for bit.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callsieve.features.dataclass import dataclass
from callsieve.features.files.strict_json import as_fields, as_mapping, as_text, as_whole, decode, encode

from .booster import Booster
from .explainer import Explainer
from .metadata import FORMAT, OPTIONAL_MODELS, BundleMetadata, GoldenVectors
from .metadata_file import metadata_from_json, metadata_to_json
from .model_text import MAX_CHARS, check_structure
from .signing import check_keys, sign, verify_signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

CARD, MANIFEST, SIGNATURE = "bundle.json", "MANIFEST.json", "MANIFEST.sig"
_MODEL_FILES = {name: f"{name}.txt" for name in ("model", *OPTIONAL_MODELS)}
_LIMITS = {CARD: 4 << 20} | dict.fromkeys(_MODEL_FILES.values(), MAX_CHARS)
_MANIFEST_LIMIT = 1 << 16
# Says what is signed, so that no signature made for anything else fits.
_KIND = "callsieve bundle"


def _unheard(_line: str) -> None:
    """Nobody asked what was checked."""


class BundleError(ValueError):
    """A bundle that must not serve: one line that says which file and which rule.

    >>> from callsieve.serving import Scorer
    >>> Scorer.load("bundle", trusted=[])
    Traceback (most recent call last):
        ...
    callsieve.serving.bundle.bundle.Refused: MANIFEST.sig: signed by key 56475aa75463474c, which is not trusted
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle(BundleMetadata):
    """A verified card with its models, ready to score.

    `contributions` explain `model`. `model_id` is the first 12 hex digits of the SHA-256 of MANIFEST.json; `signed_by`
    the id of the key.

    >>> from callsieve.serving import Scorer, read_public_key
    >>> bundle = Scorer.load("bundle", trusted=[read_public_key("signer.pub")]).bundle
    >>> [(band.name, band.certificate.certified) for band in bundle.thresholds]
    [('certified', True), ('watch', False)]
    """

    model_id: str
    signed_by: str
    model: Booster
    contributions: Explainer
    content: Booster | None = None
    mode: Booster | None = None


def save(
    card: BundleMetadata,
    models: Mapping[str, str],
    golden_rows: Sequence[Sequence[float]],
    folder: Path | str,
    signing_key: Ed25519PrivateKey,
) -> str:
    """Write a bundle, whole or not at all, and give its model id. Equal input gives equal bytes.

    Args:
        card: what the bundle says; its golden vectors are replaced.
        models: LightGBM's texts by name: "model", and "content" and "mode" where the card names their classes.
        golden_rows: feature rows (NaN: missing) whose scores are stored and checked whenever it is loaded.
        folder: must not exist.

    Raises:
        Refused: for whatever `load` would refuse.
        FileExistsError: if the folder exists.
    """
    from dataclasses import replace

    folder = Path(folder)
    if os.path.lexists(folder):
        raise FileExistsError(f"{folder}: exists already; a bundle is never overwritten")
    rows = tuple(tuple(map(float, row)) for row in golden_rows)
    texts = {}
    for name, text in models.items():
        with _refusing(f"{name}.txt"):
            texts[name] = text.encode()
    boosters = _open_models(card, texts)[0]
    with _refusing(CARD):
        scores = {name: tuple(booster.predict_few(rows)) for name, booster in boosters.items()}
        card_bytes = metadata_to_json(replace(card, golden=GoldenVectors(rows, scores)))
    files = {CARD: card_bytes} | {_MODEL_FILES[name]: text for name, text in texts.items()}
    listed = {name: {"sha256": _sha256(data), "size": len(data)} for name, data in files.items()}
    manifest = encode({"kind": _KIND, "format": FORMAT, "files": listed})
    signature = sign(manifest, signing_key)
    _open(files, _signed_files(manifest, signature, [signing_key.public_key()])[1])
    _write(folder, files | {MANIFEST: manifest, SIGNATURE: signature})
    return _model_id(manifest)


def load(
    folder: Path | str,
    trusted: Iterable[Ed25519PublicKey],
    *,
    minimum_epoch: int = 0,
    expected_catalogue: str | None = None,
    told: Callable[[str], object] = _unheard,
) -> Bundle:
    """Open a bundle that one of the trusted keys signed.

    Args:
        minimum_epoch: refuse older bundles, so that nobody can put back one that was withdrawn.
        expected_catalogue: the hash of the feature catalogue that will feed the model.
        told: called with one line for each check that was passed, in order.

    Raises:
        Refused: and nothing else, whatever the folder holds.
        TypeError: if what is trusted is no key, as the name of a key's file is none.
    """
    folder, trusted = Path(folder), tuple(trusted)
    check_keys(trusted)
    with _refusing(MANIFEST):
        manifest = _read(folder / MANIFEST, _MANIFEST_LIMIT)
    with _refusing(SIGNATURE):
        signature = _read(folder / SIGNATURE, _MANIFEST_LIMIT)
    signed_by, listed = _signed_files(manifest, signature, trusted)
    told(f"signature: {MANIFEST} is signed by the trusted key {signed_by}")
    with _refusing(str(folder)):
        _check_names(folder, listed)
    files = {}
    for name, (_, size) in listed.items():
        with _refusing(name):
            files[name] = _read(folder / name, size)
    card, boosters, contributions = _open(files, listed, told)
    with _refusing(CARD):
        if card.epoch < minimum_epoch:
            raise ValueError(f"epoch must be at least {minimum_epoch}, got {card.epoch}")
        if expected_catalogue is not None and card.catalogue_hash != expected_catalogue:
            raise ValueError(f"catalogue_hash must be {expected_catalogue}, got {card.catalogue_hash}")
    told(f"epoch: {card.epoch}, at least {minimum_epoch}")
    if expected_catalogue is not None:
        told(f"catalogue: the model's {len(card.features)} features are computed as when it was trained")
    return Bundle(
        **{name: getattr(card, name) for name in BundleMetadata.__slots__},
        model_id=_model_id(manifest),
        signed_by=signed_by,
        model=boosters["model"],
        contributions=contributions,
        content=boosters.get("content"),
        mode=boosters.get("mode"),
    )


def _signed_files(
    manifest: bytes, signature: bytes, trusted: Iterable[Ed25519PublicKey]
) -> tuple[str, dict[str, tuple[str, int]]]:
    """The signer's key id; SHA-256 and size by file name. Nothing is parsed before the signature fits."""
    with _refusing(SIGNATURE):
        signed_by = verify_signature(manifest, signature, trusted)
    with _refusing(MANIFEST):
        value = as_fields(decode(manifest), "manifest", ("kind", "format", "files"))
        if value["kind"] != _KIND:
            raise ValueError(f"kind must be {_KIND!r}")
        as_whole(value["format"], "format", FORMAT, FORMAT)
        listed = {name: _entry(name, item) for name, item in as_mapping(value["files"], "files").items()}
        for name in (CARD, _MODEL_FILES["model"]):
            if name not in listed:
                raise ValueError(f"files must list {name}")
    return signed_by, listed


def _entry(name: str, value: Any) -> tuple[str, int]:
    if name not in _LIMITS:
        raise ValueError(f"files must be among {', '.join(_LIMITS)}, got {name[:80]!r}")
    item = as_fields(value, name, ("sha256", "size"))
    return as_text(item["sha256"], f"{name}: sha256"), as_whole(item["size"], f"{name}: size", 1, _LIMITS[name])


def _open(
    files: Mapping[str, bytes], listed: Mapping[str, tuple[str, int]], told: Callable[[str], object] = _unheard
) -> tuple[BundleMetadata, dict[str, Booster], Explainer]:
    """Everything after the signature, on bytes in memory."""
    for name, (digest, size) in listed.items():
        if len(files[name]) != size or _sha256(files[name]) != digest:
            raise BundleError(f"{name}: must have the size and SHA-256 of {MANIFEST}")
    told(f"files: {', '.join(sorted(listed))}: SHA-256 and size as signed, and no other file")
    with _refusing(CARD):
        card = metadata_from_json(files[CARD])
    told(f"card: {CARD} keeps every rule of format {card.format}")
    texts = {name: files[file] for name, file in _MODEL_FILES.items() if file in files}
    boosters, contributions = _open_models(card, texts, told)
    for name, booster in boosters.items():
        with _refusing(_MODEL_FILES[name]):
            _check_golden(booster, card.golden, name)
        told(f"golden vectors: {_MODEL_FILES[name]} gives the scores of {len(card.golden.rows)} rows bit for bit")
    return card, boosters, contributions


def _open_models(
    card: BundleMetadata, texts: Mapping[str, bytes], told: Callable[[str], object] = _unheard
) -> tuple[dict[str, Booster], Explainer]:
    wanted = {"model", *card.classes}
    if texts.keys() != wanted:
        raise BundleError(f"{CARD}: classes need the models {sorted(wanted)}, got {sorted(texts)}")
    boosters, trees = {}, {}
    for name, data in texts.items():
        with _refusing(_MODEL_FILES[name]):
            text = data.decode()
            classes = len(card.classes[name]) if name in card.classes else 1
            trees[name] = check_structure(text, card.features, classes=classes, levels=card.categorical)
            told(f"structure: {_MODEL_FILES[name]} has {len(trees[name])} trees, each of them sound")
            del text  # as large as the file
            boosters[name] = Booster(data)
    with _refusing(_MODEL_FILES["model"]):
        return boosters, Explainer(trees["model"], len(card.features))


def _check_golden(booster: Booster, golden: GoldenVectors, name: str) -> None:
    wanted = golden.scores[name]
    got = booster.predict_few(golden.rows)
    single = wanted if booster.classes > 1 else tuple((booster.predict_one(row),) for row in golden.rows)
    for index, scores in enumerate(zip(wanted, got, single, strict=True)):
        if len(set(scores)) > 1:
            raise ValueError(f"golden vector {index} must give {scores[0]}, got {scores[1]} and {scores[2]}")


def _check_names(folder: Path, listed: Iterable[str]) -> None:
    missing = {*listed, MANIFEST, SIGNATURE}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name not in missing:
                raise ValueError(f"holds {entry.name[:80]!r}, which {MANIFEST} does not list")
            if not entry.is_file(follow_symlinks=False):
                raise ValueError(f"{entry.name} must be a regular file")
            missing.remove(entry.name)
    if missing:
        raise ValueError(f"{min(missing)} is missing")


def _read(path: Path, limit: int) -> bytes:
    # Neither a link put in place meanwhile is followed, nor does a pipe without a writer hang.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("must be a regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"must have at most {limit} bytes")
    return data


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """All files in a folder beside the wanted one, synced, then renamed: whole or not at all."""
    temporary = folder.with_name(f".{folder.name}.{os.urandom(4).hex()}")
    temporary.mkdir()
    try:
        for name, data in files.items():
            with (temporary / name).open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        temporary.rename(folder)
    except BaseException:
        import shutil

        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _model_id(manifest: bytes) -> str:
    return _sha256(manifest)[:12]


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Turn whatever goes wrong on bad bytes into a refusal of one line."""
    try:
        yield
    except FileNotFoundError:
        raise BundleError(f"{what}: missing") from None
    except (ValueError, OSError, MemoryError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise BundleError(f"{what}: {' '.join((said or repr(error)).split())[:400]}") from None
