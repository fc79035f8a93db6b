"""TorchScript archives -> ONNX. An archive is code: it is looked through before torch loads it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from prune_engine.errors import ConversionError
from prune_engine.formats.conversion.pickles import scan_pickle
from prune_engine.formats.conversion.plain_archive import PlainArchive, opened
from prune_engine.formats.conversion.process import Converted, InputShapes, convert
from prune_engine.formats.conversion.torchscript_code import scan_code

_WHAT = "TorchScript archive"
_CODE = re.compile(r"code/.*\.py", re.IGNORECASE)
_PICKLE = re.compile(r"(data|constants)\.pkl", re.IGNORECASE)
_PLAIN = re.compile(
    r"version|byteorder|\.data/\w+|\.format_version|\.storage_alignment|(?:data|constants)/\w+", re.IGNORECASE
)


def scan_archive(path: Path) -> None:
    """Looks through an archive's code and pickles without loading it, for loading alone would run code.

    Raises:
        ModelUnsafeError: code that runs on loading, calls that are not on the list of operators, classes and
        functions that no plain model names.
        ModelError: the archive is damaged.
    """
    with opened(path, _WHAT) as archive:
        _scan(archive)


def plain_copy(path: Path, target: Path) -> None:
    """Looks through an archive and writes one of what was looked at. Raises what `scan_archive` raises."""
    with opened(path, _WHAT) as archive:
        archive.pack(_scan(archive), target)


def _scan(archive: PlainArchive) -> list[str]:
    """The members that torch needs, all of which have been looked at."""
    sizes = archive.sizes
    code = [name for name in sizes if _CODE.fullmatch(name)]
    scan_code({name: archive.read(name) for name in code})
    pickles = [name for name in sizes if _PICKLE.fullmatch(name)]
    for name in pickles:
        scan_pickle(archive.read(name), name, name.rpartition(".")[0], sizes)
    return [*code, *pickles, *(name for name in sizes if _PLAIN.fullmatch(name))]


def convert_torchscript(
    path: Path,
    candidate_shapes: Sequence[InputShapes],
    input_specs: Mapping[str, tuple[Sequence[int | str | None], str]] | None = None,
) -> Converted:
    """Exports a TorchScript archive with the first of `candidate_shapes` that it runs with.

    Args:
        input_specs: shape (with the batch; None or a name where it may vary) and dtype of every argument of
        `forward`, by its name; the candidates are not looked at then.

    Raises:
        ModelUnsafeError, ModelError: see `scan_archive`.
        ConversionError: no shape fits, no exporter can convert it, or the export computes something else.
    """
    with tempfile.TemporaryDirectory(prefix="prunery-plain-") as folder:
        plain = Path(folder) / "model.pt"
        plain_copy(path, plain)
        if not candidate_shapes and not input_specs:
            raise ConversionError(
                "A TorchScript file does not say which shapes it takes, and there is no data to take them "
                'from. Send input_specs, such as {"x": [[null, 3, 224, 224], "float32"]}, or an ONNX export.'
            )
        request: dict[str, object] = {
            "model": str(plain),
            "shapes": candidate_shapes,
            "input_specs": None if input_specs is None else dict(input_specs),
        }
        return convert("prune_engine.formats.conversion.torchscript_export", request, "TorchScript file")
