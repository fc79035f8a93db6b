"""Files that onnxruntime's optimiser wrote: they agree with onnxruntime, train, and go back as they came."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from prune_engine import PruneSpec, prune
from prune_engine.errors import UnsupportedOperatorError
from prune_engine.formats import import_onnx
from prune_engine.formats.write_back import read_values, write_back

EXTENDED = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
ALL = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
Feed = Mapping[str, np.ndarray]


class Layer(nn.Module):
    """A transformer layer as BERT has it, written out."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(size, size) for _ in range(4))
        self.wide, self.narrow = nn.Linear(size, 2 * size), nn.Linear(2 * size, size)
        self.first, self.second = nn.LayerNorm(size), nn.LayerNorm(size)
        self.heads = heads

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, length, size = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(batch, length, self.heads, size // self.heads).transpose(1, 2)

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = torch.matmul(q, k.transpose(-1, -2)) / (size // self.heads) ** 0.5 + mask
        mixed = torch.matmul(torch.softmax(scores, -1), v).transpose(1, 2).reshape(batch, length, size)
        x = self.first(x + self.out(mixed))
        return self.second(x + self.narrow(functional.gelu(self.wide(x))))


class Encoder(nn.Module):
    def __init__(self, size: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.words, self.places, self.segments = (nn.Embedding(n, size) for n in (50, 16, 2))
        self.norm, self.out = nn.LayerNorm(size), nn.Linear(size, 3)
        self.layers = nn.ModuleList(Layer(size, heads) for _ in range(2))
        self.register_buffer("positions", torch.arange(16).unsqueeze(0))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        places = self.places(self.positions[:, : input_ids.shape[1]])
        x = self.norm(self.words(input_ids) + self.segments(token_type_ids) + places)
        mask = (1.0 - attention_mask[:, None, None, :].float()) * -10000.0
        for layer in self.layers:
            x = layer(x, mask)
        return self.out(torch.tanh(x[:, 0]))


class RootMeanSquare(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(size) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Gated(nn.Module):
    """A block with the normalisation and activation that newer language models have."""

    def __init__(self, size: int = 16) -> None:
        super().__init__()
        self.norm, self.last = RootMeanSquare(size), RootMeanSquare(size)
        self.gate, self.up, self.down = nn.Linear(size, 24), nn.Linear(size, 24), nn.Linear(24, size)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        gate = self.gate(y)
        y = x + self.down(gate * torch.sigmoid(1.702 * gate) * self.up(y))
        return functional.gelu(self.last(y), approximate="tanh")


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.third = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)
        self.hidden, self.out = nn.Linear(8, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(x + self.norm(self.second(x)))
        x = functional.leaky_relu(self.third(x), 0.2)
        x = functional.hardtanh(self.second(x), -0.5, 0.7)
        x = torch.sigmoid(self.third(x)).mean((2, 3))
        return self.out(torch.relu(self.hidden(x)))


MASK = np.ones((2, 8), np.int64)
MASK[0, 5:] = 0
RANDOM = np.random.default_rng(2)
FEEDS: dict[type[nn.Module], Feed] = {
    Encoder: {
        "input_ids": RANDOM.integers(0, 50, (2, 8)),
        "attention_mask": MASK,
        "token_type_ids": RANDOM.integers(0, 2, (2, 8)),
    },
    Gated: {"x": RANDOM.standard_normal((2, 5, 16)).astype(np.float32)},
    Convolutions: {"x": RANDOM.standard_normal((2, 3, 8, 8)).astype(np.float32)},
}


@cache
def exported(kind: type[nn.Module], dynamo: bool) -> onnx.ModelProto:
    torch.manual_seed(0)
    module, feed = kind().eval(), FEEDS[kind]
    arguments = tuple(torch.from_numpy(value) for value in feed.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            program = torch.onnx.export(
                module, arguments, dynamo=True, input_names=list(feed), opset_version=18, verbose=False
            )
            assert program is not None
            return program.model_proto
        file = io.BytesIO()
        axes = {name: {0: "batch"} for name in feed}
        torch.onnx.export(
            module, arguments, file, dynamo=False, input_names=list(feed), opset_version=17, dynamic_axes=axes
        )
    return onnx.load_from_string(file.getvalue())


def session(proto: onnx.ModelProto, level: onnxruntime.GraphOptimizationLevel, file: Path | None = None):
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    options.graph_optimization_level = level
    if file is not None:
        options.optimized_model_filepath = str(file)
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def optimised(
    proto: onnx.ModelProto, folder: Path, level: onnxruntime.GraphOptimizationLevel
) -> onnx.ModelProto:
    session(proto, level, folder / "optimised.onnx")
    return onnx.load(folder / "optimised.onnx")


def fused(proto: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in proto.graph.node if node.domain == "com.microsoft"}


def check(proto: onnx.ModelProto, feed: Feed) -> None:
    """Outputs agree, every prunable weight learns, and what is written back untouched is the same file."""
    types = {value.name: value.type.tensor_type.elem_type for value in proto.graph.input}
    feed = {name: feed[name].astype(onnx.helper.tensor_dtype_to_np_dtype(types[name])) for name in types}
    module = import_onnx(proto)
    given = [torch.from_numpy(feed[name]) for name in module.input_names]
    level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for found, wanted in zip(module.eval()(*given), session(proto, level).run(None, feed), strict=True):
        np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-4, atol=1e-5)
    torch.stack([out.square().mean() for out in module.train()(*given)]).sum().backward()
    for weight in module.prunable:
        gradient = module.weights[weight.name].grad
        assert gradient is not None, weight.name
        assert bool(gradient.isfinite().all()), weight.name
        assert bool(gradient.any()), weight.name
    back = write_back(proto, module.state_values())
    for a, b in zip(proto.graph.initializer, back.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(a), numpy_helper.to_array(b))


WRITTEN = {
    (Encoder, False): {"BiasGelu"},
    (Encoder, True): {"FusedMatMul", "SkipLayerNormalization"},
    (Convolutions, False): {"FusedConv", "FusedGemm"},
    (Convolutions, True): {"FusedConv", "FusedGemm"},
    (Gated, False): {"QuickGelu"},
    (Gated, True): {"QuickGelu"},
}


@pytest.mark.parametrize(("kind", "dynamo"), WRITTEN)
def test_extended_optimisation(kind: type[nn.Module], dynamo: bool, tmp_path: Path) -> None:
    proto = optimised(exported(kind, dynamo), tmp_path, EXTENDED)
    assert fused(proto) >= WRITTEN[kind, dynamo]
    plain, found = import_onnx(exported(kind, dynamo)), import_onnx(proto)
    sizes = [sorted(weight.shape for weight in module.prunable) for module in (plain, found)]
    assert len(sizes[1]) >= len(sizes[0])  # folding BatchNorm into one use of a shared weight makes two of it
    check(proto, FEEDS[kind])


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("level", [0, 2])
def test_the_tool_for_transformers(level: int, dynamo: bool, tmp_path: Path) -> None:
    logging.disable(logging.WARNING)
    from onnxruntime.transformers import optimizer

    file = tmp_path / "encoder.onnx"
    onnx.save(exported(Encoder, dynamo), file)
    tool = optimizer.optimize_model(str(file), "bert", num_heads=2, hidden_size=32, opt_level=level)
    tool.save_model_to_file(str(file))
    proto = onnx.load(file)
    logging.disable(logging.NOTSET)
    assert fused(proto) >= {"SkipLayerNormalization", "BiasGelu"}
    check(proto, FEEDS[Encoder])
    if not dynamo:
        assert fused(proto) >= {"Attention", "EmbedLayerNormalization"}
        kinds = {weight.name: weight.kind for weight in import_onnx(proto).prunable}
        assert kinds["words.weight"] == "Embedding"
        assert kinds["Attention_0_qkv_weight"] == "MatMul"


def test_a_layout_for_one_processor_is_refused_with_the_way_round(tmp_path: Path) -> None:
    proto = optimised(exported(Convolutions, False), tmp_path, ALL)
    if not any(node.domain == "com.microsoft.nchwc" for node in proto.graph.node):
        pytest.skip("onnxruntime has no blocked layout for this processor")
    with pytest.raises(UnsupportedOperatorError, match="ORT_ENABLE_EXTENDED"):
        import_onnx(proto)


def test_a_fused_encoder_is_pruned_to_the_exact_density(tmp_path: Path) -> None:
    from onnxruntime.transformers import optimizer

    file = tmp_path / "encoder.onnx"
    onnx.save(exported(Encoder, False), file)
    logging.disable(logging.WARNING)
    tool = optimizer.optimize_model(str(file), "bert", num_heads=2, hidden_size=32, opt_level=0)
    logging.disable(logging.NOTSET)
    tool.save_model_to_file(str(file))
    given = onnx.load(file)
    types = {value.name: value.type.tensor_type.elem_type for value in given.graph.input}
    data = {
        name: np.repeat(FEEDS[Encoder][name], 16, 0).astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
        for name, kind in types.items()
    }
    result = prune(file, data, PruneSpec(density=0.3, epochs=1, batch_size=16))
    values = read_values(result.model, result.masks)
    total = sum(value.size for value in values.values())
    assert sum(int(np.count_nonzero(value)) for value in values.values()) == round(0.3 * total)
    assert fused(result.model) == fused(given)
    assert result.report.operations.effective is not None
