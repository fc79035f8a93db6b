"""Proof 4: how long importing takes, and a training step of the imported module beside that of torch's own.

    python -m benchmarks.conformance speed [--rounds 15] [--only import|step|compile]

Importing: reading and importing a file in a fresh process, packages loaded; the median of five. A step:
forward, cross-entropy, backward and SGD on the same batch in training mode, the two modules in turn; medians.
`torch.compile` of the imported module: its graph breaks (around recurrent kernels, which torch compiles in no
module), and whether the compiled outputs are the same. Lines
to keep: 1 s for ResNet-50, 5 s for a transformer of 350 million parameters, 1.05 of the native step.

Writes `results/conformance_speed.{json,md}`. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.conformance.speed_nets import RESNET50, STEPS, TRANSFORMER, Timed
from benchmarks.conformance.zoo import VENV
from benchmarks.machine import store
from prune_engine.formats import OnnxModule, import_onnx, read_model

IMPORTS = ((RESNET50, 1.0), (TRANSFORMER, 5.0))
REPEATS = 5
FACTOR = 1.05
_IMPORT = """
import sys, time
from pathlib import Path
import onnx, onnxruntime, torch
from prune_engine.formats import import_onnx, read_model
began = time.perf_counter()
module = import_onnx(read_model(Path(sys.argv[1])).proto)
print(time.perf_counter() - began, sum(parameter.numel() for parameter in module.parameters()))
"""
Row = dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Measure and store; 0 when every line is kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conformance speed")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=("import", "step", "compile"))
    options = parser.parse_args(arguments)
    if find_spec("timm") is None and VENV.exists():
        command = [str(VENV), "-m", "benchmarks.conformance", "speed", *arguments]
        return subprocess.run(
            command, check=False, env={**os.environ, "TRANSFORMERS_VERBOSITY": "error"}
        ).returncode
    parts: dict[str, Callable[[], list[Row]]] = {
        "import": lambda: [_import(net, limit) for net, limit in IMPORTS],
        "step": lambda: [_step(net, options.rounds) for net in STEPS],
        "compile": lambda: [_compile(net) for net in STEPS],
    }
    rows = [row for name, part in parts.items() if options.only in (None, name) for row in part()]
    if options.only is None:
        store("conformance_speed", "Importing and training, beside torch itself", rows, _notes())
    else:
        print(*rows, sep="\n")
    return 0 if all(row["kept"] == "yes" for row in rows) else 1


def _notes() -> list[str]:
    threads = f"torch {torch.__version__}, {torch.get_num_threads()} threads."
    return [threads, " ".join((__doc__ or "").split("\n\n")[2].split())]


def _import(net: Timed, limit: float) -> Row:
    path, seconds, parameters = net.file(), [], 0
    for _ in range(REPEATS):
        said = subprocess.run(
            [sys.executable, "-c", _IMPORT, str(path)], capture_output=True, text=True, check=True
        ).stdout.split()
        seconds.append(float(said[0]))
        parameters = int(said[1])
    median = statistics.median(seconds)
    return {
        "measured": "import",
        "net": f"{net.name}, {parameters / 1e6:.0f} M parameters",
        "value": f"{median:.2f} s",
        "line": f"{limit:.0f} s",
        "kept": "yes" if median < limit else "no",
    }


def _imported(path: Path) -> OnnxModule:
    return import_onnx(read_model(path).proto)


def _step(net: Timed, rounds: int) -> Row:
    """Native and imported in turn, the first rounds not counted."""
    modules = {"native": net.native(), "imported": _imported(net.file())}
    x = net.example()
    steps = {name: _training_step(module, x) for name, module in modules.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 2):
        for name in (*steps,) if number % 2 else reversed((*steps,)):
            began = time.perf_counter()
            steps[name]()
            if number >= 2:
                seconds[name].append(time.perf_counter() - began)
    native, imported = (statistics.median(seconds[name]) for name in ("native", "imported"))
    ratio = imported / native
    return {
        "measured": "training step",
        "net": f"{net.name}, batch {len(x)}",
        "value": f"{imported * 1e3:.1f} ms, native {native * 1e3:.1f} ms: {ratio:.3f} x",
        "line": f"{FACTOR} x",
        "kept": "yes" if ratio <= FACTOR else "no",
    }


def _training_step(module: nn.Module, x: Tensor) -> Callable[[], None]:
    module.train()
    optimiser = torch.optim.SGD(module.parameters(), lr=1e-4)
    labels = torch.arange(len(x)) % 10

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        functional.cross_entropy(_scores(module(x)), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def _scores(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def _compile(net: Timed) -> Row:
    module, x = _imported(net.file()).train(), net.example()
    row = {"measured": "torch.compile", "net": net.name, "line": "works", "kept": "no"}
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    try:
        breaks = torch._dynamo.explain(module)(x).graph_break_count
        module.load_state_dict(state)
        wanted = _gradients(module, module, x)
        module.load_state_dict(state)
        torch._dynamo.reset()
        found = _gradients(torch.compile(module), module, x)
    except Exception as error:  # noqa: BLE001  the table says where it does not
        return {**row, "value": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    worst = max(
        float((a - b).abs().max() / b.abs().max().clamp_min(1e-12))
        for a, b in zip(found, wanted, strict=True)
    )
    text = f"{breaks} graph breaks, outputs and gradients differ by {worst:.1e}"
    return {**row, "value": text, "kept": "yes" if worst < 1e-3 else "no"}


def _gradients(call: Callable[[Tensor], Any], module: nn.Module, x: Tensor) -> list[Tensor]:
    """The output and the largest gradients."""
    module.zero_grad()
    output = _scores(call(x))
    functional.cross_entropy(output, torch.arange(len(x)) % 10).backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    largest = max(float(gradient.abs().max()) for gradient in gradients)
    large = [one.clone() for one in gradients if float(one.abs().max()) > 1e-3 * largest]
    return [output.detach(), *large]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
