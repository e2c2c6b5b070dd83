"""The bundle: a model on disk, as a folder of files with one signature over all of them.

    model.forest   the trees of the yes-no model, packed (`forest_layout.py`)
    model.txt      the same trees in LightGBM's text format, which nothing that serves parses
    second.*       optional: the yes-no model for records of answered calls only and of outgoing calls only
    content.*      optional: the kind of nuisance (one of the classes in the metadata)
    mode.*         optional: who or what is calling
    bundle.json    the metadata: features, calibration, bands with certificates, golden vectors, ...
    MANIFEST.json  SHA-256 and size of each file above
    MANIFEST.sig   Ed25519 signature over the bytes of MANIFEST.json

A bundle has no pickle and no code. `load` reads each file once and runs all checks on those bytes, in this order:
signature, hashes, metadata, structure of each model. Then the models must reproduce the golden scores bit for bit. The
last two checks of a model other than `model.forest` may wait for its first use. Until then its file stays open and out
of memory; it is read again from there, even if the folder was replaced, and its hash is checked again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from callsieve.features.files.bounded import open_regular, read_bounded
from callsieve.features.files.decode import Record, json_as
from callsieve.features.files.strict_json import encode
from callsieve.features.online.feeds import needs_second_model

from .forest import Forest
from .forest_layout import MAX_BYTES, Layout
from .metadata import (
    FORMAT,
    OPTIONAL_MODELS,
    SECOND,
    BundleMetadata,
    Calibration,
    GoldenVectors,
    metadata_from_json,
    metadata_to_json,
)
from .signing import check_keys, sign, verify_signature

METADATA, MANIFEST, SIGNATURE = "bundle.json", "MANIFEST.json", "MANIFEST.sig"
_NAMES = ("model", SECOND, *OPTIONAL_MODELS)
FORESTS, TEXTS = ({name: f"{name}.{kind}" for name in _NAMES} for kind in ("forest", "txt"))
_MAX_BYTES = dict.fromkeys(FORESTS.values(), MAX_BYTES) | dict.fromkeys(TEXTS.values(), 32 << 20) | {METADATA: 4 << 20}
_MAX_MANIFEST_BYTES = 1 << 16
_PIECE = 1 << 18  # bytes; a processor keeps them in its cache


class _ListedFile(Record, frozen=True):
    """A file in the manifest."""

    sha256: str
    size: Annotated[int, Meta(ge=1)]


class _Manifest(Record, frozen=True):
    """The signed manifest. Its kind keeps a signature that was made for another kind of file from being reused here."""

    kind: Literal["callsieve bundle"]
    format: Literal[4]
    files: dict[str, _ListedFile]


def _ignore(_line: str) -> None:
    """A callback for checks that does nothing."""


class BundleError(ValueError):
    """The bundle must not be used. The message is one line that names the file and the violated rule.

    >>> from callsieve.serving import Scorer
    >>> Scorer.load("bundle", trusted=[])
    Traceback (most recent call last):
        ...
    callsieve.serving.bundle.bundle.BundleError: MANIFEST.sig: signed by key 56475aa75463474c, which is not trusted
    """


class Bundle(BundleMetadata, frozen=True, kw_only=True):
    """Verified metadata with its models, ready to score.

    Attributes:
        model_id: first 12 hex digits of the SHA-256 of MANIFEST.json.
        signed_by: id of the key that signed the bundle.
        model: the yes-no model.
        second: the yes-no model for poorer records, or None.
        content, mode: the optional models.

    >>> from callsieve.serving import Scorer, read_public_key
    >>> bundle = Scorer.load("bundle", trusted=[read_public_key("signer.pub")]).bundle
    >>> [(band.name, band.certificate.certified) for band in bundle.thresholds]
    [('certified', True), ('watch', False)]
    """

    model_id: str
    signed_by: str
    model: Forest
    second: Forest | None = None
    content: Forest | None = None
    mode: Forest | None = None

    def __reduce__(self) -> NoReturn:
        """Refuses: a signed bundle is checked where it serves, and its models are C memory."""
        raise TypeError("a Bundle cannot be pickled or copied: load its folder in each process")

    def risk_model(self, feed: str) -> tuple[Forest, Calibration]:
        """Returns the yes-no model that scores records on this feed, and its calibration."""
        if self.second is not None and self.second_calibration is not None and needs_second_model(feed, self.feed):
            return self.second, self.second_calibration
        return self.model, self.calibration


def save(
    metadata: BundleMetadata,
    models: Mapping[str, tuple[str, bytes]],
    golden_rows: Sequence[Sequence[float]],
    folder: Path | str,
    signing_key: Ed25519PrivateKey,
) -> str:
    """Writes a bundle, whole or not at all, and returns its model id. Equal input gives equal bytes.

    `models`: LightGBM's text and the packed trees by name: "model", "second" if the metadata have its calibration, and
    "content" and "mode" if they name their classes. `golden_rows`: rows of F values (NaN: missing). Their scores are
    stored and must be reproduced at each load.
    """
    folder = Path(folder)
    if os.path.lexists(folder):
        raise FileExistsError(f"{folder}: exists already; a bundle is never overwritten")
    rows = tuple(tuple(map(float, row)) for row in golden_rows)
    packed = {name: trees for name, (_, trees) in models.items()}
    _check_models(metadata, packed)
    forests = _open_models(metadata, packed)
    with _bundle_errors(METADATA):
        scores = {name: tuple(forest.predict_few(rows)) for name, forest in forests.items()}
        metadata_bytes = metadata_to_json(msgspec.structs.replace(metadata, golden=GoldenVectors(rows, scores)))
    files = {METADATA: metadata_bytes} | {FORESTS[name]: trees for name, trees in packed.items()}
    files |= {TEXTS[name]: text.encode() for name, (text, _) in models.items()}
    listed = {name: _ListedFile(_sha256(data), len(data)) for name, data in files.items()}
    manifest = encode(msgspec.to_builtins(_Manifest("callsieve bundle", FORMAT, listed)))
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
    on_check: Callable[[str], object] = _ignore,
    lazy: bool = False,
) -> Bundle:
    """Opens a bundle that one of the trusted keys signed."""
    folder, trusted = _files_of(Path(folder)), tuple(trusted)
    check_keys(trusted)
    if not (folder / MANIFEST).exists():
        raise BundleError(
            f"{folder.absolute()}: {MANIFEST} is missing; expected a signed bundle, such as bundle/ in the "
            "folder of a training"
        )
    with _bundle_errors(MANIFEST):
        manifest = read_bounded(folder / MANIFEST, _MAX_MANIFEST_BYTES)
    with _bundle_errors(SIGNATURE):
        signature = read_bounded(folder / SIGNATURE, _MAX_MANIFEST_BYTES)
    signed_by, listed = _signed_files(manifest, signature, trusted)
    on_check(f"signature: {MANIFEST} is signed by the trusted key {signed_by}")
    with _bundle_errors(str(folder)):
        _check_names(folder, listed)
    files: dict[str, bytes | _OpenFile] = {}
    for name, file in listed.items():
        with _bundle_errors(name):
            later = name in TEXTS.values() or (lazy and name not in (METADATA, FORESTS["model"]))
            files[name] = _OpenFile(folder / name, file) if later else read_bounded(folder / name, file.size)
    metadata, forests = _open(files, listed, on_check)
    with _bundle_errors(METADATA):
        if metadata.epoch < minimum_epoch:
            raise ValueError(f"epoch must be at least {minimum_epoch}, got {metadata.epoch}")
        if expected_catalogue is not None and metadata.catalogue_hash != expected_catalogue:
            raise ValueError(
                f"catalogue_hash must be {expected_catalogue}, got {metadata.catalogue_hash}; "
                "train a new bundle with this version"
            )
    on_check(f"epoch: {metadata.epoch}, at least {minimum_epoch}")
    if expected_catalogue is not None:
        on_check(
            f"catalogue: the model's {len(metadata.features)} features have the same definitions as in its training"
        )
    return Bundle(
        **{name: getattr(metadata, name) for name in BundleMetadata.__struct_fields__},
        model_id=_model_id(manifest),
        signed_by=signed_by,
        model=forests["model"],
        second=forests.get(SECOND),
        content=forests.get("content"),
        mode=forests.get("mode"),
    )


def _files_of(folder: Path) -> Path:
    volume = folder / "..data"
    return volume.resolve() if volume.is_symlink() else folder


def _signed_files(
    manifest: bytes, signature: bytes, trusted: Iterable[Ed25519PublicKey]
) -> tuple[str, dict[str, _ListedFile]]:
    """Returns the signer's key id, and the listed files by name. Parses nothing before the signature is valid."""
    with _bundle_errors(SIGNATURE):
        signed_by = verify_signature(manifest, signature, trusted)
    with _bundle_errors(MANIFEST):
        listed = json_as(_Manifest, manifest, "").files
        for name, file in listed.items():
            if name not in _MAX_BYTES:
                raise ValueError(f"files must be among {', '.join(_MAX_BYTES)}, got {name[:80]!r}")
            if file.size > _MAX_BYTES[name]:
                raise ValueError(f"{name}: size must be at most {_MAX_BYTES[name]}, got {file.size}")
        for name in (METADATA, TEXTS["model"]):
            if name not in listed:
                raise ValueError(f"files must list {name}")
        for name, text in TEXTS.items():
            if (text in listed) != (FORESTS[name] in listed):
                raise ValueError(
                    f"files must list both {text} and {FORESTS[name]}, its trees as they are served; train or adapt "
                    "again: `callsieve train` and `callsieve adapt` write both"
                )
    return signed_by, listed


def _open(
    files: Mapping[str, bytes | _OpenFile],
    listed: Mapping[str, _ListedFile],
    on_check: Callable[[str], object] = _ignore,
) -> tuple[BundleMetadata, dict[str, Forest]]:
    """Runs all checks except the signature's; the last ones of a model in an open file wait for its first use."""
    for name, file in listed.items():
        with _bundle_errors(name):
            _check_file(files[name], file)
    on_check(f"files: {', '.join(sorted(listed))}: SHA-256 and size as signed, and no other file")
    with _bundle_errors(METADATA):
        metadata = metadata_from_json(_content(files[METADATA]))
    on_check(f"metadata: {METADATA} follows every rule of format {metadata.format}")
    packed = {name: files[path] for name, path in FORESTS.items() if path in files}
    _check_models(metadata, packed)
    optional = {name: file for name, file in packed.items() if isinstance(file, _OpenFile)}
    forests = _open_models(metadata, {name: file for name, file in packed.items() if isinstance(file, bytes)}, on_check)
    for name, forest in forests.items():
        with _bundle_errors(FORESTS[name]):
            _check_golden(forest, metadata.golden, name)
        rows = len(metadata.golden.rows)
        on_check(f"golden vectors: {FORESTS[name]} gives the scores of {rows} rows bit for bit")
    for name, lazy_file in optional.items():
        read = partial(_checked_model, metadata, name, lazy_file)
        forests[name] = Forest(read, metadata.features, _classes(metadata, name))
    return metadata, forests


def _checked_model(metadata: BundleMetadata, name: str, file: _OpenFile) -> Layout:
    with _bundle_errors(FORESTS[name]):
        data = file.read()
        _check_file(data, file.listed)
    layout = _layout(metadata, name, data)
    with _bundle_errors(FORESTS[name]):
        _check_golden(Forest(layout, metadata.features, layout.classes), metadata.golden, name)
    return layout


def _layout(metadata: BundleMetadata, name: str, data: bytes) -> Layout:
    with _bundle_errors(FORESTS[name]):
        return Layout(data, metadata.features, _classes(metadata, name), metadata.categorical)


def _classes(metadata: BundleMetadata, name: str) -> int:
    return len(metadata.classes[name]) if name in metadata.classes else 1


def _check_models(metadata: BundleMetadata, packed: Mapping[str, bytes | _OpenFile]) -> None:
    expected = {"model", *metadata.classes} | ({SECOND} if metadata.second_calibration else set())
    if packed.keys() != expected:
        raise BundleError(f"{METADATA}: needs the models {sorted(expected)}, got {sorted(packed)}")


def _open_models(
    metadata: BundleMetadata, packed: Mapping[str, bytes], on_check: Callable[[str], object] = _ignore
) -> dict[str, Forest]:
    forests = {}
    for name, data in packed.items():
        layout = _layout(metadata, name, data)
        on_check(f"structure: {FORESTS[name]} has {layout.trees} trees with valid structure")
        forests[name] = Forest(layout, metadata.features, layout.classes)
    return forests


def _check_golden(forest: Forest, golden: GoldenVectors, name: str) -> None:
    stored = golden.scores[name]
    few = forest.predict_few(golden.rows)
    single = stored if forest.classes > 1 else tuple((forest.predict_one(row),) for row in golden.rows)
    for index, scores in enumerate(zip(stored, few, single, strict=True)):
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


class _OpenFile:
    """A listed file that stays open: it takes no memory, and can be read after its folder was replaced."""

    def __init__(self, path: Path, listed: _ListedFile) -> None:
        self.listed, self._file = listed, open_regular(path)

    def __del__(self) -> None:
        if hasattr(self, "_file"):  # not if it could not be opened
            self._file.close()

    def pieces(self) -> Iterator[bytes]:
        """Yields the content, until it is longer than the listed size; processes that were forked do not interfere."""
        at = 0
        while at <= self.listed.size and (piece := os.pread(self._file.fileno(), _PIECE, at)):
            at += len(piece)
            yield piece

    def read(self) -> bytes:
        """Returns the content, or more than the listed size."""
        return b"".join(self.pieces())


def _content(file: bytes | _OpenFile) -> bytes:
    return file if isinstance(file, bytes) else file.read()


def _check_file(file: bytes | _OpenFile, listed: _ListedFile) -> None:
    size, digest = 0, hashlib.sha256()
    for piece in [file] if isinstance(file, bytes) else file.pieces():
        size += len(piece)
        digest.update(piece)
    if size != listed.size or digest.hexdigest() != listed.sha256:
        raise ValueError(f"must have the size and SHA-256 of {MANIFEST}")


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes all files into a temporary folder beside `folder`, syncs them and renames the folder."""
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
def _bundle_errors(file: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise BundleError(f"{file}: missing") from None
    except (ValueError, OSError, MemoryError) as error:
        message = error.strerror if isinstance(error, OSError) else str(error)
        raise BundleError(f"{file}: {' '.join((message or repr(error)).split())[:400]}") from None
