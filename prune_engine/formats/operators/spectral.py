"""Fourier transforms, window functions and the mel scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from prune_engine.formats.operators.creation import check_size
from prune_engine.formats.operators.dtypes import compute_dtype
from prune_engine.formats.operators.table import Kernel, Node, operator

Number = int | float | list[int] | list[float]


def _one(value: Number) -> float:
    return value[0] if isinstance(value, list) else value


@operator("DFT", since=17, until=19, host=(1,))
def _transform_along_attribute(node: Node) -> Kernel:
    axis = node.attribute("axis", 1)
    return lambda x, length=None: _transform(node, x, length, axis)


@operator("DFT", since=20, host=(1, 2))
def _transform_along_input(node: Node) -> Kernel:
    return lambda x, length=None, axis=-2: _transform(node, x, length, -2 if axis is None else axis)


def _transform(node: Node, x: Tensor, length: Number | None, axis: Number) -> Tensor:
    """Complex numbers are pairs in the last axis; a last axis of size 1 holds real ones."""
    inverse, one_sided = node.attribute("inverse", 0), node.attribute("onesided", 0)
    dim = int(_one(axis)) % x.dim()
    size = None if length is None else int(_one(length))
    values = torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x.squeeze(-1)
    if inverse and one_sided:
        real: Tensor = torch.fft.irfft(values, size, dim).unsqueeze(-1)
        return real
    if inverse:
        result = torch.fft.ifft(values, size, dim)
    else:
        result = torch.fft.fft(values, size, dim)
        if one_sided:
            result = result.narrow(dim, 0, result.shape[dim] // 2 + 1)
    return torch.view_as_real(result.resolve_conj())


@operator("STFT", since=17, host=(1, 3))
def _short_time_transform(node: Node) -> Kernel:
    """Frames [batch, frames, bins, 2] of a signal [batch, length, 1 or 2]; nothing is padded."""
    one_sided = bool(node.attribute("onesided", 1))

    def kernel(
        signal: Tensor, step: Number, shape: Tensor | None = None, length: Number | None = None
    ) -> Tensor:
        if length is not None:
            size = int(_one(length))
        else:
            size = signal.shape[1] if shape is None else shape.shape[0]
        values = torch.view_as_complex(signal.contiguous()) if signal.shape[-1:] == (2,) else signal
        values = values.squeeze(-1) if values.dim() == 3 else values
        frames = values.unfold(1, size, int(_one(step)))
        frames = frames if shape is None else frames * shape
        if one_sided and not frames.is_complex():
            return torch.view_as_real(torch.fft.rfft(frames))
        result = torch.fft.fft(frames)
        return torch.view_as_real(result[..., : size // 2 + 1] if one_sided else result)

    return kernel


_COSINES = {  # coefficients of the cosines with 0, 1 and 2 periods
    "HannWindow": (0.5, -0.5),
    "HammingWindow": (25 / 46, -21 / 46),
    "BlackmanWindow": (0.42, -0.5, 0.08),
}


@operator(*_COSINES, since=17, host=(0,), device=True)
def _window(node: Node) -> Kernel:
    """A sum of cosines over `size` elements, or over one less where the window is symmetric."""
    dtype = compute_dtype(node.attribute("output_datatype", TensorProto.FLOAT))
    shorter = 0 if node.attribute("periodic", 1) else 1
    coefficients = _COSINES[node.operator]

    def kernel(device: torch.device, size: Number) -> Tensor:
        count = int(_one(size))
        check_size([count])
        angle = torch.arange(count, dtype=torch.float64) * (2 * math.pi / max(count - shorter, 1))
        waves = [c * torch.cos(k * angle) for k, c in enumerate(coefficients)]
        return torch.stack(waves).sum(0).to(dtype).to(device)

    return kernel


@operator("MelWeightMatrix", since=17, host=(0, 1, 2, 3, 4), device=True)
def _mel_weight_matrix(node: Node) -> Kernel:
    """[spectrum bins, mel bins]: triangles equally wide on the mel scale m = 2595 log10(1 + f / 700)."""
    dtype = compute_dtype(node.attribute("output_datatype", TensorProto.FLOAT))

    def kernel(
        device: torch.device, bins: Number, length: Number, rate: Number, lowest: Number, highest: Number
    ) -> Tensor:
        count, spectrum = int(_one(bins)), int(_one(length)) // 2 + 1
        check_size([spectrum, count])
        low, high = (2595 * math.log10(1 + _one(f) / 700) for f in (lowest, highest))
        mels = np.arange(count + 2) * (high - low) / (count + 2) + low
        hertz = 700 * (10 ** (mels / 2595) - 1)
        edges = ((_one(length) + 1) * hertz // _one(rate)).astype(np.int64)
        return torch.from_numpy(_triangles(edges, spectrum)).to(device, dtype)

    return kernel


def _triangles(edges: Sequence[int] | np.ndarray, height: int) -> np.ndarray:
    """Column i rises from edge i to edge i + 1 and falls to edge i + 2."""
    weights = np.zeros((height, len(edges) - 2))
    for column in range(len(edges) - 2):
        begin, top, end = (int(edge) for edge in edges[column : column + 3])
        if begin == top:
            weights[top, column] = 1.0
        for row in range(begin, top + 1) if top > begin else ():
            weights[row, column] = (row - begin) / (top - begin)
        for row in range(top, end):
            weights[row, column] = (end - row) / (end - top)
    return weights
