"""The operators of ai.onnx.ml that scikit-learn pipelines put around a network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prune_engine.formats.operators.dtypes import carried
from prune_engine.formats.operators.table import Kernel, Node, NotSupportedError, operator
from prune_engine.formats.tensors import to_numpy

ML = "ai.onnx.ml"
NO_STRINGS = "Export the model with numbers as its labels and categories."


@operator("ArrayFeatureExtractor", domain=ML, since=1)
def _array_feature_extractor(node: Node) -> Kernel:
    def kernel(x: Tensor, places: Tensor) -> Tensor:
        picked = x.index_select(-1, places.reshape(-1))
        return picked.reshape(1, -1) if x.dim() == 1 else picked

    return kernel


@operator("Binarizer", domain=ML, since=1)
def _binarizer(node: Node) -> Kernel:
    threshold = node.attribute("threshold", 0.0)
    return lambda x: (x > threshold).to(x.dtype)


@operator("Scaler", domain=ML, since=1)
def _scaler(node: Node) -> Kernel:
    offset, scale = node.attribute("offset", [0.0]), node.attribute("scale", [1.0])

    def kernel(x: Tensor) -> Tensor:
        x = x.float()
        return (x - x.new_tensor(offset)) * x.new_tensor(scale)

    return kernel


@operator("Normalizer", domain=ML, since=1)
def _normalizer(node: Node) -> Kernel:
    """Each row divided by its norm; a row of zeros stays one."""
    order = {"MAX": math.inf, "L1": 1, "L2": 2}[node.attribute("norm", "MAX")]

    def kernel(x: Tensor) -> Tensor:
        x = x.float()
        if order == math.inf:
            norm = x.amax(-1, keepdim=True)  # the largest value, not the largest magnitude
        else:
            norm = torch.linalg.vector_norm(x, order, -1, keepdim=True)
        return x / torch.where(norm == 0, torch.ones_like(norm), norm)

    return kernel


@operator("Imputer", domain=ML, since=1)
def _imputer(node: Node) -> Kernel:
    whole = node.attribute("imputed_value_int64s")
    values = whole or node.attribute("imputed_value_floats")
    missing = node.attribute("replaced_value_int64" if whole else "replaced_value_float", 0)

    def kernel(x: Tensor) -> Tensor:
        gone = x.isnan() if math.isnan(missing) else x == missing
        return torch.where(gone, torch.tensor(values, dtype=x.dtype, device=x.device), x)

    return kernel


@operator("FeatureVectorizer", domain=ML, since=1)
def _feature_vectorizer(node: Node) -> Kernel:
    return lambda *parts: torch.cat([p.float().reshape(p.shape[0], -1) for p in parts], 1)


@operator("OneHotEncoder", domain=ML, since=1)
def _one_hot_encoder(node: Node) -> Kernel:
    categories, zeros = node.attribute("cats_int64s"), node.attribute("zeros", 1)
    if categories is None:
        raise NotSupportedError("categories that are strings", NO_STRINGS)

    def kernel(x: Tensor) -> Tensor:
        hits = x.long().unsqueeze(-1) == torch.tensor(categories, device=x.device)
        if not zeros and not bool(hits.any(-1).all()):
            raise ValueError(f"a value is in none of the {len(categories)} categories")
        return hits.float()

    return kernel


@operator("LabelEncoder", domain=ML, since=2)
def _label_encoder(node: Node) -> Kernel:
    """A table from numbers to numbers; what is not in it gets the default."""
    keys, values = _table(node, "keys"), _table(node, "values")
    if keys is None or values is None:
        raise NotSupportedError("a LabelEncoder of strings", NO_STRINGS)
    default = _default(node, values)
    numbers = ~np.isnan(keys)
    order = np.flatnonzero(numbers)[np.argsort(keys[numbers], kind="stable")]
    known, results = torch.from_numpy(keys[order]), torch.from_numpy(values[order])
    of_nan = values[~numbers][0].item() if not numbers.all() else None

    def kernel(x: Tensor) -> Tensor:
        places, table = known.to(x.device), results.to(x.device)
        index = torch.searchsorted(places, x.contiguous()).clamp(max=len(places) - 1)
        found = torch.where(places[index] == x, table[index], torch.full_like(table[index], default))
        return found if of_nan is None else torch.where(x.isnan(), torch.full_like(found, of_nan), found)

    return kernel


def _table(node: Node, name: str) -> np.ndarray | None:
    tensor = node.attribute(f"{name}_tensor")
    if tensor is not None:
        found = to_numpy(tensor).reshape(-1)
        return None if found.dtype.kind in "OSU" else carried(found, tensor.data_type).numpy()
    floats, integers = node.attribute(f"{name}_floats"), node.attribute(f"{name}_int64s")
    if floats:
        return np.array(floats, np.float32)
    return np.array(integers, np.int64) if integers else None


def _default(node: Node, values: np.ndarray) -> Any:
    tensor = node.attribute("default_tensor")
    if tensor is not None:
        return to_numpy(tensor).reshape(-1)[0].item()
    if values.dtype.kind == "f":
        return node.attribute("default_float", -0.0)
    return node.attribute("default_int64", -1)
