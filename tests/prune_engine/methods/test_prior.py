"""The prior: by magnitude within a layer, comparable between layers."""

from __future__ import annotations

import pytest
import torch

from prune_engine.methods.prior import lamp_scores, prior_logits


def test_scores_are_the_papers() -> None:
    scores = lamp_scores(torch.tensor([1.0, -3.0, 2.0]))
    assert scores.tolist() == pytest.approx([1 / 14, 1.0, 4 / 13])


def test_within_a_layer_larger_weights_come_first() -> None:
    weights = torch.tensor([0.1, -2.0, 0.5, 0.0])
    assert prior_logits([weights], 2.0).argsort(descending=True).tolist() == [1, 2, 0, 3]


def test_the_scale_of_a_layer_does_not_matter() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(50), torch.randn(70)
    torch.testing.assert_close(prior_logits([one, other], 1.0), prior_logits([one * 30, other], 1.0))


def test_no_prior_makes_all_gates_equal() -> None:
    assert prior_logits([torch.randn(2, 3), torch.randn(4)], 0.0).tolist() == [0.0] * 10


def test_layers_of_zeros_or_of_equal_weights_give_finite_logits() -> None:
    assert prior_logits([torch.zeros(5), torch.ones(3)], 2.0).isfinite().all()
    assert prior_logits([torch.ones(1)], 2.0).isfinite().all()
