"""A file that fails a check is never handed out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from prune_engine.data.built_in import digits
from prune_engine.errors import VerificationError
from prune_engine.formats import OnnxModule, import_onnx, write_back
from prune_engine.gates import Layout, lay_out
from prune_engine.granularity import Blocks, Patterns, SingleWeights
from prune_engine.verify import verify
from tests.trained import digits_net, export

Masks = dict[str, np.ndarray]


@pytest.fixture
def pruned(tmp_path: Path) -> tuple[onnx.ModelProto, OnnxModule, Masks]:
    """A model cut at half its weights by magnitude, by hand."""
    export(digits_net(digits()), torch.zeros(1, 1, 8, 8), tmp_path / "digits.onnx")
    proto = onnx.load(tmp_path / "digits.onnx")
    module = import_onnx(proto)
    sizes = torch.cat([module.weights[weight.name].detach().abs().flatten() for weight in module.prunable])
    median = sizes.median()
    masks = {}
    with torch.no_grad():
        for weight in module.prunable:
            mask = module.weights[weight.name].abs() > median
            module.weights[weight.name].mul_(mask)
            masks[weight.name] = mask.numpy()
    return proto, module, masks


def plain(module: OnnxModule) -> Layout:
    return lay_out(module.prunable, [weight.name for weight in module.prunable], SingleWeights())


FEED = {"x": np.random.default_rng(0).random((8, 1, 8, 8), dtype=np.float32)}
DENSITY = 0.5


def test_a_sound_file_passes_every_check(pruned: tuple[onnx.ModelProto, OnnxModule, Masks]) -> None:
    proto, module, masks = pruned
    checks, _ = verify(
        proto, write_back(proto, module.state_values()), module, masks, plain(module), DENSITY, FEED
    )
    assert len(checks) == 6
    assert all(check.passed for check in checks)


def test_one_weight_too_many_fails(pruned: tuple[onnx.ModelProto, OnnxModule, Masks]) -> None:
    proto, module, masks = pruned
    name, mask = next(iter(masks.items()))
    with torch.no_grad():
        module.weights[name][tuple(np.argwhere(~mask)[0])] = 1.0
    with pytest.raises(VerificationError, match=r"exact density: 3233 of 6464 .* 1 off mask"):
        verify(proto, write_back(proto, module.state_values()), module, masks, plain(module), DENSITY, FEED)


@pytest.mark.parametrize(
    ("granularity", "said"),
    [
        (Patterns(2, 4), r"every group is 2:4: 1614 of 1616 groups of 4 have exactly 2 that are not zero"),
        (Blocks(1, 4), r"blocks of 1x4 are whole: .* 1616 are mixed"),
    ],
)
def test_a_group_or_block_that_is_broken_fails(
    pruned: tuple[onnx.ModelProto, OnnxModule, Masks], granularity: Patterns | Blocks, said: str
) -> None:
    proto, module, _ = pruned
    masks: Masks = {}
    with torch.no_grad():
        for weight in module.prunable:
            values = module.weights[weight.name]
            mask = torch.zeros(weight.shape)
            mask[:, ::2] = 1.0
            values.copy_(torch.ones_like(values) * mask)
            masks[weight.name] = mask.bool().numpy()
        values[0, :2] = torch.tensor([0.0, 1.0])  # still 2 of 4
        values[1, 0], values[1, 5] = 0.0, 1.0  # 1 of 4 and 3 of 4: as many as before
        masks[weight.name] = (values != 0).numpy()
    names = [weight.name for weight in module.prunable]
    layout = lay_out(module.prunable, names, granularity)
    with pytest.raises(VerificationError, match=said):
        verify(proto, write_back(proto, module.state_values()), module, masks, layout, DENSITY, FEED)


def test_another_graph_fails(pruned: tuple[onnx.ModelProto, OnnxModule, Masks]) -> None:
    proto, module, masks = pruned
    changed = write_back(proto, module.state_values())
    changed.graph.node[1].name = "renamed"
    with pytest.raises(VerificationError, match="graph is the original's"):
        verify(proto, changed, module, masks, plain(module), DENSITY, FEED)


def test_values_that_the_module_does_not_have_fail(pruned: tuple[onnx.ModelProto, OnnxModule, Masks]) -> None:
    proto, module, masks = pruned
    written = write_back(proto, module.state_values())
    bias = next(name for name in module.weights if name not in masks)
    with torch.no_grad():
        module.weights[bias] += 1.0
    with pytest.raises(VerificationError, match="agrees with the trained module"):
        verify(proto, written, module, masks, plain(module), DENSITY, FEED)
