"""What gates cost: a training step with learned gates over a dense step, side by side in one run.

    python -m benchmarks.gated_step [--pairs N] [--threads N] [--gpu]

Both steps run the same network, loss and batch, and Adam in its fused form; they take turns, so that whatever
else the machine does hits both alike. The gated step is the whole of it: hold the density, sample, forward,
backward, turn the gradients, Adam on weights and logits. The fixed-mask step is that of fine-tuning. Where
the extra `bench` is installed, NNCF's step of learned masks (`nncf.prune`, RB) takes its turns as well.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import random
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.accuracy.peers.nncf_peers import NncfRb
from benchmarks.machine import store
from prune_engine.gates import FlatParameters
from prune_engine.methods import Gumbel, MethodSettings
from prune_engine.training.acceleration import channels_last, native_bfloat16
from prune_engine.training.phases import FixedMaskPhase, PruningPhase

TARGETS = {
    "lenet-300-100, batch 128": 1.6,
    "lenet-300-100, batch 512": 1.25,
    "resnet-20, batch 128": 1.05,
    "resnet-20, batch 128, bfloat16": 1.05,
    "resnet-20, batch 512, bfloat16, GPU": 1.05,
}
DENSITY = 0.05
PROGRESS = 0.7
"""Where in the training the step is taken: the density has arrived, the gates are still open."""


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut (He 2015, section 4.2, option A replaced by a 1x1 convolution)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(rows, inputs, height, width) -> (rows, outputs, height / stride, width / stride)."""
        y = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(y)) + self.shortcut(x))


def resnet20() -> nn.Sequential:
    """ResNet-20 for 32x32 images and ten classes."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for outputs in (16, 32, 64):
        for block in range(3):
            layers.append(Block(inputs, outputs, 2 if block == 0 and outputs > 16 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def lenet() -> nn.Sequential:
    """784-300-100-10 with ReLU."""
    return nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


class Held(nn.Module):
    """A network inside of another module: NNCF cannot put its hooks into an `nn.Sequential`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """As the network's."""
        y: Tensor = self.net(x)
        return y


class Fast(nn.Module):
    """A network in bfloat16 with its images' channels last, as a job's training computes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """As the network's, in float32."""
        with torch.autocast(x.device.type, torch.bfloat16):
            y: Tensor = self.net(channels_last(x))
        return y.float()


def dense_step(net: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """A step of plain training."""
    optimiser = torch.optim.Adam(net.parameters(), 1e-4, fused=True)

    def step() -> None:
        torch.autograd.backward(functional.cross_entropy(net(x), y))
        optimiser.step()
        optimiser.zero_grad()

    return step


def gated_steps(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Callable[[], None], Callable[[], None]]:
    """A step with open gates and one under a fixed mask, on copies of `net`."""
    phases: list[tuple[nn.Module, PruningPhase | FixedMaskPhase]] = []
    for fixed in (False, True):
        twin = copy.deepcopy(net)
        weights = dict(twin.named_parameters())
        flat = FlatParameters(weights, [name for name, w in weights.items() if w.dim() > 1], x.device)
        settings = MethodSettings(
            density=DENSITY,
            kept=round(DENSITY * flat.prunable),
            gate_learning_rate=0.1,
            gate_prior=1.0,
            gate_noise=1.0,
            gate_temperature=1.0,
            gate_epsilon=1e-8,
            anneal_until=0.5,
            fix_mask_at=0.8,
            seed=0,
        )
        method = Gumbel(flat, settings)
        phase = (
            FixedMaskPhase(flat, method.mask(), 1e-4, 0.0) if fixed else PruningPhase(flat, method, 1e-4, 0.0)
        )
        phases.append((twin, phase))

    def stepper(twin: nn.Module, phase: PruningPhase | FixedMaskPhase) -> Callable[[], None]:
        def step() -> None:
            phase.before_forward(PROGRESS)
            torch.autograd.backward(functional.cross_entropy(twin(x), y))
            phase.after_backward(PROGRESS)

        return step

    return stepper(*phases[0]), stepper(*phases[1])


def rb_step(net: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """A step of NNCF's learned masks as its users train them, on a copy of `net`."""
    twin = copy.deepcopy(net)
    inner = Held(twin.net if isinstance(twin, Fast) else twin)
    peer = NncfRb(inner, x, DENSITY, {"rate": 1e-4, "mask_rate": 0.1}, 10_000)
    trained = Fast(peer.net) if isinstance(twin, Fast) else peer.net
    optimiser, after_step = peer.optimiser()

    def step() -> None:
        peer.before_step(1, peer.steps)
        torch.autograd.backward(functional.cross_entropy(trained(x), y) + peer.penalty())
        optimiser.step()
        after_step()
        optimiser.zero_grad()

    return step


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare(name: str, net: nn.Module, x: Tensor, pairs: int) -> dict[str, float | str | int]:
    """Medians of `pairs` steps of each kind, taken in turns after a warm-up."""
    y = torch.randint(0, 10, (len(x),), generator=torch.Generator().manual_seed(0)).to(x.device)
    gated, fixed = gated_steps(net, x, y)
    steps = {"dense": dense_step(net, x, y), "gated": gated, "fixed mask": fixed}
    if importlib.util.find_spec("nncf"):
        steps["NNCF RB"] = rb_step(net, x, y)
    times: dict[str, list[float]] = {kind: [] for kind in steps}
    # In a random order: with a fixed one, the slices of a busy machine's scheduler hit always the same kind.
    order = random.Random(0)
    for turn in range(pairs + max(pairs // 10, 3)):
        for kind, step in order.sample(list(steps.items()), len(steps)):
            wait(x.device)
            started = time.perf_counter()
            step()
            wait(x.device)
            if turn >= max(pairs // 10, 3):
                times[kind].append(time.perf_counter() - started)
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    return {
        "task": name,
        "pairs": pairs,
        "dense": round(1e3 * medians["dense"], 3),
        "gated": round(1e3 * medians["gated"], 3),
        "fixed mask": round(1e3 * medians["fixed mask"], 3),
        "gated / dense": round(medians["gated"] / medians["dense"], 3),
        "fixed mask / dense": round(medians["fixed mask"] / medians["dense"], 3),
        "NNCF RB / dense": round(medians["NNCF RB"] / medians["dense"], 3) if "NNCF RB" in medians else None,
        "at most": TARGETS[name],
    }


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--pairs", type=int, default=500, help="steps of each kind for LeNet; ResNet-20: a tenth"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpu", action="store_true", help="only the step on a GPU, into a table of its own")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    about = (
        "Dense, gated and fixed-mask steps take turns in one run (`python -m benchmarks.gated_step"
        f"{' --gpu' if chosen.gpu else ''}`), {chosen.threads} thread(s), torch {torch.__version__}, "
        f"density {DENSITY}."
    )
    if chosen.gpu:
        on_gpu = torch.rand(512, 3, 32, 32, device="cuda")
        row = compare("resnet-20, batch 512, bfloat16, GPU", Fast(resnet20()).cuda(), on_gpu, chosen.pairs)
        store(
            "gated_step_gpu", "What gates cost on a GPU: medians of one step, in milliseconds", [row], [about]
        )
        return
    rows = [
        compare("lenet-300-100, batch 128", lenet(), torch.rand(128, 784), chosen.pairs),
        compare("lenet-300-100, batch 512", lenet(), torch.rand(512, 784), chosen.pairs),
        compare("resnet-20, batch 128", resnet20(), torch.rand(128, 3, 32, 32), max(chosen.pairs // 10, 5)),
    ]
    images, tenth = torch.rand(128, 3, 32, 32), max(chosen.pairs // 10, 5)
    if native_bfloat16(images.device):
        rows.append(compare("resnet-20, batch 128, bfloat16", Fast(resnet20()), images, tenth))
    else:
        print("resnet-20 in bfloat16: left out, this processor has none of its own")
    if not importlib.util.find_spec("nncf"):
        print("NNCF's step: left out, it comes with the extra `bench`")
    store(
        "gated_step",
        "What gates cost: medians of one training step, in milliseconds",
        rows,
        [about],
    )


if __name__ == "__main__":
    main()
