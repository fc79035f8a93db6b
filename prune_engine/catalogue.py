"""Named data sets: which there are, where they come from, how to get them. Light: no torch, no onnx.

A name is looked for in the local folder (`<name>.npz`) first, then in the cache, then it is built in or
fetched through the Hugging Face `datasets` library (the extra `hf`). Only `fetch` goes to the network.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from prune_engine.errors import DatasetUnavailableError, UnknownDatasetError

BUILT_IN = "built in"
LOCAL = "local folder"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}", re.IGNORECASE)
_HUB = re.compile(r"hf:([A-Za-z0-9][A-Za-z0-9_.-]{0,95})/([A-Za-z0-9][A-Za-z0-9_.-]{0,95})")


class CatalogueEntry(BaseModel):
    """A named data set.

    `source` is "built in", "local folder" or "Hugging Face: owner/name"; `available`: no network is needed.
    `rows` are training and test together. `classes` is None without classes, or where only the labels know.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    kind: Literal["image", "table", "text", "tensors"]
    task: Literal["classification", "regression", "distillation"]
    classes: int | None = None
    rows: int | None = None
    licence: str = "not stated"
    source: str
    available: bool = False
    note: str = ""


_KNOWN = (
    CatalogueEntry(
        name="digits",
        title="Handwritten digits, 8x8 grey (scikit-learn)",
        kind="image",
        task="classification",
        classes=10,
        rows=1797,
        licence="CC BY 4.0",
        source=BUILT_IN,
        note="Values 0 to 16. Always there; 1,438 rows to train on, 359 held out, by class.",
    ),
    CatalogueEntry(
        name="mnist",
        title="MNIST: handwritten digits, 28x28 grey",
        kind="image",
        task="classification",
        classes=10,
        rows=70_000,
        licence="usually given as CC BY-SA 3.0",
        source="Hugging Face: ylecun/mnist",
    ),
    CatalogueEntry(
        name="fashion_mnist",
        title="Fashion-MNIST: articles of clothing, 28x28 grey",
        kind="image",
        task="classification",
        classes=10,
        rows=70_000,
        licence="MIT",
        source="Hugging Face: zalando-datasets/fashion_mnist",
    ),
    CatalogueEntry(
        name="cifar10",
        title="CIFAR-10: photos, 32x32 RGB",
        kind="image",
        task="classification",
        classes=10,
        rows=60_000,
        source="Hugging Face: uoft-cs/cifar10",
    ),
    CatalogueEntry(
        name="cifar100",
        title="CIFAR-100: photos, 32x32 RGB, fine labels",
        kind="image",
        task="classification",
        classes=100,
        rows=60_000,
        source="Hugging Face: uoft-cs/cifar100",
    ),
    CatalogueEntry(
        name="sst2",
        title="SST-2: sentiment of sentences",
        kind="text",
        task="classification",
        classes=2,
        source="Hugging Face: stanfordnlp/sst2",
        note="Texts: send the model's tokenizer.json with the job. The hub's test split has no labels; "
        "its validation split is measured on.",
    ),
)


def default_cache_dir() -> Path:
    """Where fetched data sets are kept: `prunery/datasets` in the user's cache folder (XDG)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "prunery" / "datasets"


def entries(datasets_dir: Path | None, cache_dir: Path | None = None) -> list[CatalogueEntry]:
    """All named data sets: the known ones, then every other `<name>.npz` of the local folder, by name."""
    listed = []
    for entry in _KNOWN:
        if _local(entry.name, datasets_dir):
            entry = entry.model_copy(update={"source": LOCAL, "available": True})
        elif entry.source == BUILT_IN or _local(entry.name, cache_dir):
            entry = entry.model_copy(update={"available": True})
        listed.append(entry)
    known = {entry.name for entry in _KNOWN}
    for name in _names_in(datasets_dir):
        found = None if name in known or datasets_dir is None else _peek(name, datasets_dir)
        if found is not None:
            listed.append(found)
    return listed


def check_name(name: str, datasets_dir: Path | None) -> None:
    """See that a data set of this name is known; `hf:owner/name` is accepted by its form.

    Raises:
        UnknownDatasetError: it is not; lists what is.
    """
    if _HUB.fullmatch(name) and ".." not in name:
        return
    if name in {entry.name for entry in _KNOWN} or _local(name, datasets_dir):
        return
    known = ", ".join(entry.name for entry in entries(datasets_dir))
    raise UnknownDatasetError(
        f"no data set is called {name[:100]!r}; known are {known}, and hf:owner/name from the Hugging "
        "Face hub; or send a file: .npz, .zip of image folders, .csv or .parquet"
    )


def is_built_in(name: str) -> bool:
    """Whether the data set comes with Prunery, so that nothing needs to be fetched."""
    return any(entry.name == name and entry.source == BUILT_IN for entry in _KNOWN)


def is_from_hub(name: str) -> bool:
    """Whether the name is one of the hub's own, `hf:owner/name`, and not one of the catalogue's."""
    return name.startswith("hf:")


def find(name: str, *, datasets_dir: Path | None, cache_dir: Path) -> Path | None:
    """The path of a data set that is on this machine already: in the local folder, else in the cache.

    Raises:
        UnknownDatasetError: no such name.
    """
    check_name(name, datasets_dir)
    found = (_local(file_stem(name), folder) for folder in (datasets_dir, cache_dir))
    return next((path for path in found if path is not None), None)


def fetch(name: str, *, datasets_dir: Path | None, cache_dir: Path) -> Path:
    """The path of a data set's `.npz` file (x_train, y_train and, where there is one, a test split).

    Args:
        name: a known name, a file's name in the local folder, or `hf:owner/name`.
        datasets_dir: the local folder, looked at first.
        cache_dir: where a fetched file is kept; written whole or not at all.

    Raises:
        UnknownDatasetError: no such name.
        DatasetUnavailableError: it cannot be fetched here; says which file to put where.
        DataError: the hub's data cannot be turned into rows.
    """
    if (found := find(name, datasets_dir=datasets_dir, cache_dir=cache_dir)) is not None:
        return found
    target = cache_dir / f"{file_stem(name)}.npz"
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        return _make(name, target)
    except OSError as error:
        raise DatasetUnavailableError(
            f"'{name}' could not be kept in the cache folder ({error.strerror or error}); make room, let "
            f"it be written, or put {target.name} into the folder that DATASETS_DIR names"
        ) from None


def _make(name: str, target: Path) -> Path:
    """Build or download the data set into the cache."""
    entry = next((entry for entry in _KNOWN if entry.name == name), None)
    if entry is not None and entry.source == BUILT_IN:
        from prune_engine.data.built_in import digits
        from prune_engine.data.save_npz import save_npz

        save_npz(target, digits())
        return target
    repository = name.removeprefix("hf:") if entry is None else entry.source.removeprefix("Hugging Face: ")
    return _fetch_from_hub(name, repository, target)


def file_stem(name: str) -> str:
    """The name of the file without its suffix: `hf:owner/name` becomes `hf--owner--name`."""
    return name.replace("hf:", "hf--").replace("/", "--")


def _fetch_from_hub(name: str, repository: str, target: Path) -> Path:
    try:
        from prune_engine.data.hugging_face import arrays_of, load
        from prune_engine.data.save_npz import save_npz
    except ImportError:
        raise DatasetUnavailableError(
            f"'{name}' comes from the Hugging Face hub, for which the extra is missing: install "
            f"prunery[hf], or put {target.name} (x_train, y_train, x_test, y_test) into the folder that "
            "DATASETS_DIR names"
        ) from None
    save_npz(target, arrays_of(load(repository, name, target.name)))
    return target


def _local(name: str, folder: Path | None) -> Path | None:
    """The file of that name in the folder, if the name is harmless and the file is there."""
    if folder is None or not _NAME.fullmatch(name) or ".." in name:
        return None
    path = folder / f"{name}.npz"
    return path if path.is_file() else None


def _peek(name: str, folder: Path) -> CatalogueEntry | None:
    """What the headers of a local file tell; None where it is no readable .npz file."""
    from prune_engine.data.npz import read_headers
    from prune_engine.data.raw import LABEL_NAMES, kind_of_shape
    from prune_engine.errors import DataError

    try:
        headers = read_headers(folder / f"{name}.npz")
    except DataError:
        return None
    plain = {key.removesuffix("_train"): header for key, header in headers.items()}
    label = next((plain[key] for key in LABEL_NAMES if key in plain), None)
    inputs = [plain[key] for key in ("x", *plain) if key in plain and key not in LABEL_NAMES]
    if not inputs:
        return None
    shape, dtype = inputs[0]
    rows = [
        header[0][0] for key, header in headers.items() if key in ("x", "x_train", "x_test") and header[0]
    ]
    task: Literal["classification", "regression", "distillation"] = "distillation"
    if label is not None:
        whole = label[1].kind in "biuU" and len(label[0]) == 1
        task = "classification" if whole else "regression"
    return CatalogueEntry(
        name=name,
        title=f"{name}.npz",
        kind=kind_of_shape(shape, dtype),
        task=task,
        rows=sum(rows) or None,
        source=LOCAL,
        available=True,
    )


def _names_in(folder: Path | None) -> list[str]:
    if folder is None or not folder.is_dir():
        return []
    return sorted(path.stem for path in folder.glob("*.npz") if _local(path.stem, folder))
