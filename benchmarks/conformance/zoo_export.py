"""A net of the zoo as a file: by torch's two ONNX exporters, as TorchScript and as `.pt2`.

What was exported is kept under `.cache/zoo/`, by the net's source and the packages' versions, with inputs and
what the net itself makes of them.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.conformance.architectures import ZOO, Architecture, make
from benchmarks.conformance.architectures.architecture import tensors

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "zoo"
ROUTES = ("legacy", "dynamo", "torchscript", "pt2")
SUFFIX = {"legacy": ".onnx", "dynamo": ".onnx", "torchscript": ".pt", "pt2": ".pt2"}
ROWS = 3
LEGACY_OPSET, DYNAMO_OPSET = 17, 20
_PACKAGES = ("torch", "torchvision", "timm", "transformers", "onnx", "onnxscript")


@dataclass(frozen=True)
class Exported:
    """A file of the cache.

    Args:
        error: what the exporter said where it failed; then there is no file.
        fixed: the exporter took no free batch axis, so that the file has the batch size 2.
    """

    path: Path
    error: str
    fixed: bool

    def reference(self) -> tuple[dict[str, np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]]:
        """Inputs by name, and the float outputs of the net itself."""
        with np.load(self.path.with_name(self.path.stem + ".npz")) as arrays:
            inputs = {name[3:]: arrays[name] for name in arrays.files if name.startswith("in_")}
            outputs = [arrays[f"out_{i}"] for i in range(len(arrays.files) - len(inputs))]
        return inputs, outputs


def routes_of(architecture: Architecture) -> tuple[str, ...]:
    """The ways that a net goes."""
    return ROUTES if architecture.formats else ROUTES[:2]


def exported(name: str, route: str) -> Exported:
    """The net's file, from the cache where it is there."""
    architecture = ZOO[name]
    stem = f"{name}-{route}-{_key(architecture, route)}"
    path, note = CACHE / f"{stem}{SUFFIX[route]}", CACHE / f"{stem}.json"
    if not note.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        said = _export(architecture, route, path)
        note.write_text(json.dumps(said), encoding="utf-8")
    said = json.loads(note.read_text(encoding="utf-8"))
    return Exported(path, str(said["error"]), bool(said["fixed"]))


def _key(architecture: Architecture, route: str) -> str:
    """Changes where another file could come out."""
    text = [route, str(architecture.inputs), *map(inspect.getsource, (_WAYS[route], make))]
    text.append(Path(inspect.getfile(architecture.build)).read_text(encoding="utf-8"))
    for package in _PACKAGES:
        try:
            text.append(version(package))
        except PackageNotFoundError:
            text.append("")
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:12]


def _export(architecture: Architecture, route: str, path: Path) -> dict[str, Any]:
    module = make(architecture)
    generator = np.random.default_rng(1)
    example = tuple(torch.from_numpy(one.draw(2, generator)) for one in architecture.inputs)
    error, fixed = "", False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fixed = _WAYS[route](module, example, [one.name for one in architecture.inputs], path)
    except Exception as failure:  # noqa: BLE001  exporters fail with anything
        lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
        return {"error": f"{type(failure).__name__}: {' '.join(lines[:3])[:300]}", "fixed": False}
    rows = tuple(torch.from_numpy(one.draw(2 if fixed else ROWS, generator)) for one in architecture.inputs)
    with torch.no_grad():
        outputs = tensors(module(*rows))
    arrays = {f"in_{one.name}": row.numpy() for one, row in zip(architecture.inputs, rows, strict=True)}
    arrays |= {f"out_{i}": output.numpy() for i, output in enumerate(outputs)}
    np.savez(path.with_name(path.stem + ".npz"), **arrays)  # type: ignore[arg-type]
    return {"error": error, "fixed": fixed}


def _legacy(module: nn.Module, example: tuple[Tensor, ...], names: list[str], path: Path) -> bool:
    axes = {name: {0: "batch"} for name in names}
    torch.onnx.export(
        module, example, str(path), dynamo=False, opset_version=LEGACY_OPSET, input_names=names,
        dynamic_axes=axes,
    )  # fmt: skip
    return False


def _dynamo(module: nn.Module, example: tuple[Tensor, ...], names: list[str], path: Path) -> bool:
    def export(free: bool) -> None:
        shapes = tuple({0: torch.export.Dim("batch")} for _ in names) if free else None
        torch.onnx.export(
            module, example, str(path), dynamo=True, opset_version=DYNAMO_OPSET, input_names=names,
            dynamic_shapes=shapes, external_data=False, verbose=False,
        )  # fmt: skip

    return _free_or_fixed(export)


def _torchscript(module: nn.Module, example: tuple[Tensor, ...], names: list[str], path: Path) -> bool:
    torch.backends.mha.set_fastpath_enabled(False)
    traced = torch.jit.trace(module, example, strict=False)  # type: ignore[no-untyped-call]
    traced.save(str(path))
    return False


def _pt2(module: nn.Module, example: tuple[Tensor, ...], names: list[str], path: Path) -> bool:
    def export(free: bool) -> None:
        shapes = tuple({0: torch.export.Dim("batch")} for _ in names) if free else None
        torch.export.save(torch.export.export(module, example, dynamic_shapes=shapes), path)

    return _free_or_fixed(export)


def _free_or_fixed(export: Callable[[bool], None]) -> bool:
    """With a free batch axis where the exporter manages; whether the batch is fixed."""
    try:
        export(True)
    except Exception:  # noqa: BLE001  exporters fail with anything; the second try tells
        export(False)
        return True
    return False


_WAYS: dict[str, Callable[[nn.Module, tuple[Tensor, ...], list[str], Path], bool]] = {
    "legacy": _legacy,
    "dynamo": _dynamo,
    "torchscript": _torchscript,
    "pt2": _pt2,
}


if __name__ == "__main__":
    print(exported(sys.argv[1], sys.argv[2]))
