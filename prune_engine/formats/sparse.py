"""Sparse tensors of a file as dense ones."""

from __future__ import annotations

import math

import numpy as np
from onnx import SparseTensorProto, TensorProto, numpy_helper

from prune_engine.errors import ModelError
from prune_engine.formats.tensors import to_numpy

_LARGEST = 2**28  # elements; a few stored values must not ask for terabytes


def dense_tensor(sparse: SparseTensorProto, where: str) -> TensorProto:
    """The tensor with its zeros written out.

    Raises:
        ModelError: the shape is negative or has more than 2**28 elements, or an index lies outside of it.
    """
    shape = tuple(sparse.dims)
    if any(size < 0 for size in shape) or math.prod(shape) > _LARGEST:
        raise ModelError(f"{where} has the shape {list(shape)}, which is more than {_LARGEST} elements.")
    values, indices = to_numpy(sparse.values, where), to_numpy(sparse.indices, f"{where} (indices)")
    dense = np.zeros(math.prod(shape), values.dtype)
    try:
        places = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
        if np.any(places < 0):
            raise IndexError("a negative index")
        dense[places] = values
    except (IndexError, ValueError, TypeError) as error:
        raise ModelError(
            f"{where} has indices that do not fit its shape {list(shape)} ({error}). The file is damaged."
        ) from error
    return numpy_helper.from_array(dense.reshape(shape), sparse.values.name)
