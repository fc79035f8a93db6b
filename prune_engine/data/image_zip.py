"""Reading a .zip of image folders, one folder per class: `cats/1.png`, `dogs/7.jpg`.

A folder around everything is allowed, and a level `train/` and `test/` (also `val/`, where there is no
`test/`). Images without any class folder are rows without labels. Archives come from strangers: no path
that leaves the folder, no links, no passwords; bytes are counted while inflating, pixels before decoding.
"""

from __future__ import annotations

import io
import stat
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from prune_engine.data.limits import ARCHIVE_ERRORS, MAX_IMAGE_BYTES, MAX_MEMBERS, MAX_PIXELS, check_unpacked
from prune_engine.data.raw import Array, RawData, Source, Split
from prune_engine.errors import DataEmptyError, DataError, DataFormatError, DataUnsafeError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
_TRAIN_NAMES = frozenset({"train", "training"})
_TEST_NAMES = ("test", "testing", "val", "valid", "validation")
_LITTER = frozenset({"__macosx", "thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class _Member:
    """An image in the archive; `path` without the folder around everything and without the split."""

    info: zipfile.ZipInfo
    path: tuple[str, ...]


def read_image_zip(path: Path, name: str, source: Source) -> RawData:
    """Images as uint8, (rows, height, width) where all are grey, else (rows, height, width, 3).

    Images of other sizes are resized to the most common one, with a warning.

    Raises:
        DataUnsafeError: `..`, absolute paths, links, passwords, or too much to unpack.
        DataFormatError: no images, or folders that are no classes.
        DataError: a damaged archive or image, named.
    """
    warnings: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            splits = _splits(_images(archive.infolist(), warnings), warnings)
            classes = _classes(splits)
            layout = _survey(archive, [member for split in splits.values() for member in split], warnings)
            read = {
                which: Split({"x": _decode(archive, members, layout)}, _labels(members, classes))
                for which, members in splits.items()
            }
    except ARCHIVE_ERRORS as error:
        raise DataError(f"the .zip file is damaged: {error}; pack it again") from None
    if classes is None:
        warnings.append(
            "The images are in no class folders, so there are no labels; the dense model is distilled."
        )
    return RawData(
        name, source, "image", read["train"], read.get("test"), classes=classes, warnings=tuple(warnings)
    )


def check_path(info: zipfile.ZipInfo) -> PurePosixPath:
    """The member's path, if it is harmless.

    Raises:
        DataUnsafeError: it is absolute, leaves the folder, is a link or is encrypted.
    """
    name = info.filename
    path = PurePosixPath(name)
    drive = ":" in "".join(path.parts[:1])
    if path.is_absolute() or drive or not path.parts or ".." in path.parts or "\\" in name or "\0" in name:
        raise DataUnsafeError(
            f"the .zip file has the member {name[:200]!r}, whose path leaves its folder; pack only "
            "relative paths"
        )
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataUnsafeError(
            f"{name[:200]!r} in the .zip file is a link or device; pack the images themselves"
        )
    if info.flag_bits & 1:
        raise DataUnsafeError(f"{name[:200]!r} in the .zip file is encrypted; pack it without a password")
    return path


def _images(infos: list[zipfile.ZipInfo], warnings: list[str]) -> list[_Member]:
    if len(infos) > MAX_MEMBERS:
        raise DataUnsafeError(f"the .zip file has {len(infos)} members; at most {MAX_MEMBERS} are read")
    members, others = [], []
    for info in infos:
        path = check_path(info)
        if info.is_dir() or any(part.lower() in _LITTER or part.startswith(".") for part in path.parts):
            continue
        if path.suffix.lower() in SUFFIXES:
            members.append(_Member(info, path.parts))
        else:
            others.append(info.filename)
    if len({member.path for member in members}) < len(members):
        raise DataUnsafeError("the .zip file has two members of one name; pack it again")
    if not members:
        found = f" (it has {', '.join(others[:3])})" if others else ""
        raise DataFormatError(
            f"the .zip file holds no images{found}; put images (png, jpg, webp, bmp, gif) into one "
            "folder per class"
        )
    if others:
        warnings.append(
            f"{len(others)} files in the .zip are no images and were left out, such as {others[0]!r}."
        )
    check_unpacked(sum(member.info.file_size for member in members), "the .zip file")
    return members


def _splits(members: list[_Member], warnings: list[str]) -> dict[str, list[_Member]]:
    """Members by split, with paths from the class folder on."""
    while all(len(member.path) > 2 for member in members) and len({m.path[0] for m in members}) == 1:
        if members[0].path[0].lower() in _TRAIN_NAMES:
            break
        members = [_Member(member.info, member.path[1:]) for member in members]
    tops = {member.path[0].lower() for member in members if len(member.path) > 1}
    if not (tops & _TRAIN_NAMES and tops <= _TRAIN_NAMES | set(_TEST_NAMES)):
        return {"train": members}
    below: dict[str, list[_Member]] = {}
    for member in members:
        if len(member.path) == 1:
            raise DataFormatError(
                f"{member.info.filename!r} lies beside train/ and test/; put it into one of them"
            )
        below.setdefault(member.path[0].lower(), []).append(_Member(member.info, member.path[1:]))
    splits = {"train": [member for top in sorted(tops & _TRAIN_NAMES) for member in below[top]]}
    for top in _TEST_NAMES:
        if top in below and "test" not in splits:
            splits["test"] = below[top]
        elif top in below:
            warnings.append(f"The folder {top}/ is not used; measuring takes the other one.")
    return splits


def _classes(splits: dict[str, list[_Member]]) -> tuple[str, ...] | None:
    """Class names in order (numbers by value); None where there are no class folders."""
    train = {member.path[0] if len(member.path) > 1 else None for member in splits["train"]}
    if train == {None} or (len(train) == 1 and "test" not in splits):
        return None
    if None in train:
        raise DataFormatError(
            "some images lie in class folders and some beside them; every image needs a class folder"
        )
    names = {name for name in train if name is not None}
    for member in splits.get("test", []):
        if len(member.path) < 2 or member.path[0] not in names:
            raise DataFormatError(f"{member.info.filename!r} is in no class folder that train/ has too")
    numeric = all(name.isascii() and name.isdigit() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if numeric else (0, name)))


def _labels(members: list[_Member], classes: tuple[str, ...] | None) -> Array | None:
    if classes is None:
        return None
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[member.path[0]] for member in members], dtype=np.int64)


@dataclass(frozen=True)
class _Layout:
    width: int
    height: int
    grey: bool


def _survey(archive: zipfile.ZipFile, members: list[_Member], warnings: list[str]) -> _Layout:
    """Sizes and colours from the images' headers alone; decides what all become."""
    sizes: Counter[tuple[int, int]] = Counter()
    grey = True
    for member in members:
        with _open(archive, member) as image:
            sizes[image.size] += 1
            grey = grey and image.mode in ("1", "L", "I;16", "I")
    (width, height), most = max(sizes.items(), key=lambda item: (item[1], item[0]))
    if len(sizes) > 1:
        warnings.append(
            f"{len(members) - most} of {len(members)} images were resized to the most common size, "
            f"{width}x{height}."
        )
    check_unpacked(len(members) * width * height * (1 if grey else 3), "all images together")
    return _Layout(width, height, grey)


def _decode(archive: zipfile.ZipFile, members: list[_Member], layout: _Layout) -> Array:
    shape = (layout.height, layout.width) if layout.grey else (layout.height, layout.width, 3)
    pixels = np.empty((len(members), *shape), dtype=np.uint8)
    for row, member in enumerate(members):
        with _open(archive, member) as image:
            try:
                plain = as_pixels(image, grey=layout.grey)
            except (OSError, SyntaxError, ValueError, EOFError) as error:
                raise DataError(f"image {member.info.filename!r} is damaged: {error}") from None
            if plain.size != (layout.width, layout.height):
                plain = plain.resize((layout.width, layout.height), Image.Resampling.BILINEAR)
            pixels[row] = np.asarray(plain)
    return pixels


def as_pixels(image: Image.Image, *, grey: bool) -> Image.Image:
    """The image with 8 bits a pixel, grey or RGB; of 16-bit grey the upper byte."""
    if image.mode in ("I;16", "I"):
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert("L" if grey else "RGB")


def _open(archive: zipfile.ZipFile, member: _Member) -> Image.Image:
    """The image with its header read, its size checked and no pixel decoded."""
    name = member.info.filename
    if member.info.file_size > MAX_IMAGE_BYTES:
        raise DataUnsafeError(
            f"image {name!r} has {member.info.file_size} bytes; at most {MAX_IMAGE_BYTES} are read"
        )
    with archive.open(member.info) as stream:
        contents = stream.read(MAX_IMAGE_BYTES + 1)
    if len(contents) > MAX_IMAGE_BYTES:
        raise DataUnsafeError(f"image {name!r} unpacks to more than {MAX_IMAGE_BYTES} bytes")
    try:
        image = Image.open(io.BytesIO(contents), formats=_FORMATS)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, Image.DecompressionBombError) or "too large" in str(error):
            raise DataUnsafeError(f"image {name!r} unpacks to far too much: {error}") from None
        reason = "is no image" if isinstance(error, UnidentifiedImageError) else f"cannot be read: {error}"
        raise DataError(f"{name!r} {reason}; png, jpg, webp, bmp and gif are read") from None
    if image.width * image.height > MAX_PIXELS:
        raise DataUnsafeError(
            f"image {name!r} has {image.width}x{image.height} pixels; at most {MAX_PIXELS} in all are read"
        )
    return image


__all__ = ["SUFFIXES", "DataEmptyError", "as_pixels", "check_path", "read_image_zip"]
