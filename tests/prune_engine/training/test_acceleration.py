"""When a training step is made faster, and that it stays the same step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prune_engine.training.acceleration import (
    Accelerated,
    Acceleration,
    Census,
    accelerate,
    channels_last,
    native_bfloat16,
)
from tests.prune_engine.training.tasks import CPU, Network

BFLOAT16 = pytest.mark.skipif(not native_bfloat16(CPU), reason="this processor has no bfloat16 of its own")


def images_net(groups: int = 1) -> Network:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, groups=groups),
        nn.ReLU(),
        nn.Flatten(),
    )
    return Network(nn.Sequential(*net, nn.Linear(16 * 14 * 14, 10)))


def table_net() -> Network:
    torch.manual_seed(0)
    return Network(nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10)))


IMAGES = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
TABLE = torch.rand(4, 784, generator=torch.Generator().manual_seed(0))


@BFLOAT16
def test_a_large_classifier_of_images_gets_both() -> None:
    module, chosen = accelerate(images_net(), (IMAGES,), asked="auto", classes=True, batch=128)
    assert str(chosen) == "bfloat16, channels last"
    assert isinstance(module, Accelerated)


@BFLOAT16
def test_numbers_are_learned_in_float32() -> None:
    module, chosen = accelerate(table_net(), (TABLE,), asked="auto", classes=False, batch=128)
    assert str(chosen) == "none"
    assert "numbers" in chosen.why
    assert not isinstance(module, Accelerated)


@BFLOAT16
def test_small_products_stay_in_float32_and_large_ones_do_not() -> None:
    small = accelerate(table_net(), (TABLE,), asked="auto", classes=True, batch=16)[1]
    large = accelerate(table_net(), (TABLE,), asked="auto", classes=True, batch=128)[1]
    assert (str(small), str(large)) == ("none", "bfloat16")
    assert "too small" in small.why


@BFLOAT16
def test_grouped_convolutions_keep_a_cpu_in_float32() -> None:
    chosen = accelerate(images_net(groups=16), (IMAGES,), asked="auto", classes=True, batch=128)[1]
    assert str(chosen) == "channels last"
    assert "grouped" in chosen.why


@BFLOAT16
def test_a_model_that_rounds_stays_in_float32() -> None:
    class Rounding(Network):
        def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
            x = inputs[0]
            return super().forward(x + ((x * 255).round() / 255 - x).detach())

    chosen = accelerate(Rounding(table_net().net), (TABLE,), asked="auto", classes=True, batch=128)[1]
    assert str(chosen) == "none"
    assert "rounds" in chosen.why


@BFLOAT16
def test_a_model_that_loses_its_answer_in_bfloat16_stays_in_float32() -> None:
    class Difference(Network):
        """The small difference of two large numbers."""

        def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
            linear = self.net[0]
            one = linear(inputs[0] + 1000.0)
            return (one - linear(inputs[0].new_full(inputs[0].shape, 1000.0)),)

    net = Difference(nn.Sequential(nn.Linear(784, 300)))
    chosen = accelerate(net, (TABLE,), asked="auto", classes=True, batch=128)[1]
    assert str(chosen) == "none"
    assert "outputs are others" in chosen.why


@BFLOAT16
def test_a_model_that_fails_in_bfloat16_stays_in_float32() -> None:
    class Picky(Network):
        def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
            y = self.net(*inputs)[0]
            return (y.new_zeros(y.shape, dtype=torch.float32).index_add(0, torch.arange(len(y)), y),)

    chosen = accelerate(Picky(table_net().net), (TABLE,), asked="auto", classes=True, batch=128)[1]
    assert str(chosen) == "none"
    assert "an operator fails" in chosen.why


def test_off_leaves_the_module_alone() -> None:
    net = images_net()
    module, chosen = accelerate(net, (IMAGES,), asked="off", classes=True, batch=128)
    assert module is net
    assert (str(chosen), chosen.why) == ("none", "as asked")


def test_looking_at_a_module_changes_nothing_of_it() -> None:
    net = Network(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(784, 10)))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    state = torch.get_rng_state()
    accelerate(net, (IMAGES,), asked="auto", classes=True, batch=128)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_changes_the_layout_alone(channels: int) -> None:
    x = torch.rand(2, channels, 5, 4)
    y = channels_last(x)
    assert torch.equal(x, y)
    assert y.stride() == (20 * channels, 1, 4 * channels, channels)


def test_what_is_no_image_keeps_its_layout() -> None:
    numbers = torch.arange(16).reshape(1, 2, 4, 2)
    assert channels_last(numbers) is numbers
    assert channels_last(TABLE) is TABLE


def test_outputs_and_gradients_are_float32_and_close() -> None:
    net = images_net()
    fast = Accelerated(net, Acceleration(bfloat16=True, channels_last=True))
    (y,), (expected,) = fast(IMAGES), net(IMAGES)
    assert y.dtype is torch.float32
    assert float((y - expected).detach().norm() / expected.detach().norm()) < 0.02
    y.square().mean().backward()
    assert {parameter.grad.dtype for parameter in net.parameters() if parameter.grad is not None} == {
        torch.float32
    }
    assert fast.weights.keys() == net.weights.keys()
    fast.eval()
    assert not net.training


def test_the_census_counts_multiply_adds() -> None:
    with Census() as census:
        images_net()(IMAGES)
    assert (census.products, census.images, census.grouped) == (3, 2, 0)
    assert census.operations == 4 * (16 * 16 * 16 * 9 + 16 * 14 * 14 * 16 * 9 + 16 * 14 * 14 * 10)
