from __future__ import annotations

import numpy as np
import pytest
import torch

from prune_engine.data.arrangement import arrangements
from prune_engine.data.transform import IDENTITY, Transform, to_tensor
from prune_engine.errors import SpecError
from prune_engine.spec import Preprocess


def test_scale_then_mean_then_std_by_channel() -> None:
    rows = torch.randint(0, 256, (3, 4, 5, 3), dtype=torch.uint8)
    (way,) = arrangements((4, 5, 3), (3, 4, 5))
    step = Preprocess(scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0))
    result = Transform(way, step, torch.float32)(rows)
    expected = (rows.numpy() / 255 - np.array([0.1, 0.2, 0.3])) / np.array([1.0, 2.0, 4.0])
    assert result.dtype == torch.float32
    assert np.allclose(result.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)


def test_channel_means_reach_flat_images_too() -> None:
    rows = torch.rand(3, 4, 5, 3)
    way = arrangements((4, 5, 3), (60,))[0]
    result = Transform(way, Preprocess(mean=(1.0, 2.0, 3.0)), torch.float32)(rows)
    expected = (rows.numpy() - np.array([1.0, 2.0, 3.0])).transpose(0, 3, 1, 2).reshape(3, 60)
    assert np.allclose(result.numpy(), expected, atol=1e-6)


def test_columns_of_large_numbers_are_standardised_in_double_precision() -> None:
    seconds = np.array([[1.7e9], [1.7e9 + 1], [1.7e9 + 2]])
    (way,) = arrangements((1,), (1,))
    result = Transform(way, Preprocess(mean=(1.7e9 + 1,)), torch.float32)(to_tensor(seconds))
    assert result.ravel().tolist() == [-1, 0, 1]


def test_integers_stay_exact() -> None:
    ids = torch.tensor([[2**40 + 1, 3]])
    (way,) = arrangements((2,), (2,))
    assert torch.equal(Transform(way, IDENTITY, torch.int64)(ids), ids)


def test_a_mean_of_the_wrong_length_is_a_spec_error() -> None:
    (way,) = arrangements((4, 5, 3), (3, 4, 5))
    with pytest.raises(SpecError, match=r"preprocess\.mean has 2 values") as caught:
        Transform(way, Preprocess(mean=(1.0, 2.0)), torch.float32).check()
    assert caught.value.param == "preprocess"


def test_dtypes_unknown_to_torch_are_converted() -> None:
    assert to_tensor(np.arange(3, dtype=np.uint16)).dtype == torch.int64
    assert to_tensor(np.arange(3, dtype=np.uint32)).tolist() == [0, 1, 2]
