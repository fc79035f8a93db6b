"""A training step of ResNet-20 on a GPU: kernel by kernel and recorded, with gates and without.

    python -m benchmarks.gpu_step [--rounds N]

The steps are a job's own: rows from the device, moved images, labels and teacher, backward, Adam; what is
recorded is what `prune_engine/formats/replay.py` records. The kinds take turns, so that whatever else the
machine does hits all alike. It needs CIFAR-10 in `.cache/datasets` and the trained ResNet-20 of
`make bench-accuracy`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch

from benchmarks.accuracy.dense import RESNET20
from benchmarks.accuracy.rows import load_rows
from benchmarks.accuracy.tasks import TASKS
from benchmarks.machine import store
from prune_engine.data import Prepared, data_from_arrays, prepare
from prune_engine.events import silent
from prune_engine.formats import OnnxModule, Replays, input_infos, output_infos, read_model
from prune_engine.measure import run_session, session
from prune_engine.preflight import importable
from prune_engine.spec import PruneSpec
from prune_engine.training.clock import Clock
from prune_engine.training.run import Run
from prune_engine.training.subject import Subject

DENSITY = 0.05
PROGRESS = 0.3
"""Where in the training the step is taken: the gates are open."""
STEPS = 40
BATCHES = (128, 512)


class Steps:
    """A job's training, of which single steps are taken."""

    def __init__(self, batch: int, prepared: Prepared, module: OnnxModule) -> None:
        self.module = module
        device = torch.device("cuda")
        spec = PruneSpec(density=DENSITY, batch_size=batch, epochs=40, device="cuda")
        subject = Subject(module, prepared, spec, device)
        settings = subject.settings(spec)
        self.form = settings.acceleration
        self._run = Run(subject, settings, Clock(settings.total_steps, None), silent)
        self._weights = list(subject.module.weights.values())
        self._adam = torch.optim.Adam(self._weights, 0.0, fused=True)

    def gated(self) -> None:
        """One step with open gates."""
        run = self._run
        run.phase.before_forward(PROGRESS)
        run._objective.backward(next(run.batches), 1)
        run.phase.after_backward(PROGRESS)

    def dense(self) -> None:
        """One step without gates: the same loss, and Adam on the weights."""
        run = self._run
        run._objective.backward(next(run.batches), 1)
        self._adam.step()
        for weight in self._weights:
            weight.grad = None


def timed(step: Callable[[], None]) -> float:
    """Milliseconds of a step, over `STEPS` in a row."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - started) / STEPS


def measure(batch: int, rounds: int) -> dict[str, object]:
    """Medians of all kinds at one batch size."""
    rows = load_rows(TASKS["resnet20"]).arrays()
    source = read_model(RESNET20)
    proto = source.proto
    dense = session(proto)
    spec = PruneSpec(density=DENSITY, batch_size=batch, epochs=40)
    data = data_from_arrays(rows, name="cifar10")
    infos = input_infos(proto), output_infos(proto)
    prepared = prepare(data, *infos, lambda feed: run_session(dense, feed), spec)
    steps = Steps(batch, prepared, importable(source))
    replays = Replays()
    times: dict[str, list[float]] = {}
    for number in range(-1, rounds):
        for recorded in (False, True):
            steps.module.replays = replays if recorded else None
            for kind, step in (("dense", steps.dense), ("gated", steps.gated)):
                took = timed(step)
                if number >= 0:
                    times.setdefault(f"{kind}{', recorded' if recorded else ''}", []).append(took)
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    return {
        "batch": batch,
        "form": steps.form,
        **{kind: round(median, 3) for kind, median in medians.items()},
        "gated / dense": round(medians["gated"] / medians["dense"], 3),
        "the same, recorded": round(medians["gated, recorded"] / medians["dense, recorded"], 3),
        "recorded / not": round(medians["gated, recorded"] / medians["gated"], 3),
        "said": replays.said,
    }


def main() -> int:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no GPU here", file=sys.stderr)
        return 1
    warnings.simplefilter("ignore")
    store(
        "gpu_step",
        "A training step of ResNet-20 on a GPU, milliseconds",
        [measure(batch, chosen.rounds) for batch in BATCHES],
        [
            f"Medians of {chosen.rounds} rounds of {STEPS} steps (`python -m benchmarks.gpu_step`), "
            f"torch {torch.__version__}, density {DENSITY}, gates open. A step is a job's own, with labels, "
            "teacher and moved images. Recorded: forward and backward are launched as CUDA graphs.",
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
