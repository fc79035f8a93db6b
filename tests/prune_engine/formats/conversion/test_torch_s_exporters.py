"""What Prunery relies on in torch that torch has deprecated or keeps private: these tests tell when it goes.

If one fails after an update of torch, the routes in `torchscript_export.py` and `pt2_export.py` need another
way, or `pyproject.toml` an upper bound for torch.
"""

from __future__ import annotations

import importlib
import inspect
import io
import warnings

import pytest
import torch
from torch import nn

from prune_engine.formats.conversion import pt2_export, torchscript_export

GONE = (
    "torch {version} has no {what} any more, on which {route} relies. Find another way, or bound torch in "
    "pyproject.toml."
)


@pytest.mark.parametrize(
    ("module", "path", "route"),
    [
        ("torch.onnx", "register_custom_op_symbolic", "the first TorchScript route"),
        ("torch.onnx", "TrainingMode.EVAL", "the first TorchScript route"),
        ("torch._C", "_jit_pass_inline", "TorchScript that returns dicts"),
        ("torch._export.converter", "TS2EPConverter.convert", "the second TorchScript route"),
        ("torch.export", "load", "the .pt2 route"),
        ("torch.utils._pytree", "SERIALIZED_TYPE_TO_PYTHON_TYPE", "the .pt2 route"),
        ("torch.utils._pytree", "register_pytree_node", "the .pt2 route"),
    ],
)
def test_what_is_relied_on_is_there(module: str, path: str, route: str) -> None:
    part = importlib.import_module(module)
    for name in path.split("."):
        gone = GONE.format(version=torch.__version__, what=f"{module}.{path}", route=route)
        assert hasattr(part, name), gone
        part = getattr(part, name)


def test_the_exporter_still_takes_both_ways() -> None:
    taken = inspect.signature(torch.onnx.export).parameters
    for name in ("dynamo", "optimize", "do_constant_folding", "training", "dynamic_axes", "opset_version"):
        assert name in taken, GONE.format(version=torch.__version__, what=f"export({name}=)", route="export")


def test_the_torchscript_exporter_is_deprecated_and_no_more_than_that() -> None:
    """The day that it stops warning it has been removed, or taken back."""
    traced = torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.onnx.export(traced, (torch.ones(1, 2),), io.BytesIO(), dynamo=False, opset_version=17)
    kinds = {item.category for item in said if "legacy" in str(item.message)}
    assert kinds == {DeprecationWarning}, [str(item.message)[:200] for item in said]


def test_unpickling_can_be_held_to_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.export.load` asks for everything; this variable is what makes torch refuse it."""

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("sprung",))

    stream = io.BytesIO()
    torch.save({"x": Trap()}, stream)
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(io.BytesIO(stream.getvalue()), weights_only=False)


def test_the_opsets_are_ones_that_onnxruntime_and_the_importer_take() -> None:
    assert torchscript_export.OPSET == 17
    assert torchscript_export.OPSET_EXPORT == pt2_export.OPSET == 20
