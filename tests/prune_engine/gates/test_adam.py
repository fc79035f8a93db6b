"""Adam in slices is torch's Adam."""

from __future__ import annotations

import pytest
import torch

from prune_engine.gates import ChunkedAdam
from tests.prune_engine.devices import DEVICES


@pytest.mark.parametrize("device", DEVICES)
def test_slices_are_trained_as_torch_trains_the_whole(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1000, generator=generator).to(device)
    gradients = [torch.randn(1000, generator=generator).to(device) for _ in range(5)]
    whole, sliced = start.clone(), start.clone()
    torch_adam = torch.optim.Adam([whole], lr=0.1, eps=1e-3, fused=True)
    adam = ChunkedAdam(sliced, epsilon=1e-3)
    for step, gradient in enumerate(gradients):
        rate = 0.1 / (step + 1)
        torch_adam.param_groups[0]["lr"] = rate
        whole.grad = gradient.clone()
        torch_adam.step()
        adam.begin(rate)
        for place in (slice(0, 7), slice(7, 999), slice(999, 1000)):
            adam.update(place, gradient[place])
    torch.testing.assert_close(sliced, whole, rtol=1e-6, atol=1e-7)


def test_it_goes_on_from_its_state_to_the_same_bits() -> None:
    gradient = torch.linspace(-1.0, 1.0, 10)
    one, other = torch.zeros(10), torch.zeros(10)
    first, second = ChunkedAdam(one), ChunkedAdam(other)
    assert first.state() == {}
    first.begin(0.1)
    first.update(slice(0, 10), gradient)
    other.copy_(one)
    second.load(dict(first.state()))
    for adam in (first, second):
        adam.begin(0.05)
        adam.update(slice(0, 10), gradient.square())
    assert torch.equal(one, other)


def test_released_moments_come_back_with_load_alone() -> None:
    values = torch.zeros(4)
    adam = ChunkedAdam(values)
    adam.begin(0.1)
    adam.update(slice(0, 4), torch.ones(4))
    kept = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in adam.state().items()}
    adam.release()
    assert adam.state() == {}
    adam.load(kept)
    assert torch.equal(adam.state()["exp_avg"], kept["exp_avg"])  # type: ignore[arg-type]
