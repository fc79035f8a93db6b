"""The machine and the libraries a run used."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import torch

from prune_engine.errors import DeviceError
from prune_engine.ranks import require_gpus
from prune_engine.report import Environment
from prune_engine.spec import PruneSpec

_LIBRARIES = ("torch", "onnx", "onnxruntime", "numpy")


def choose_device(asked: str, ranks: int = 1) -> torch.device:
    """`auto` is CUDA where each of so many processes on this machine has one of its own, else the CPU.

    Raises:
        DeviceError: CUDA was asked for by name and there is none, or not one for each process.
    """
    if asked == "cuda" and ranks > 1:
        require_gpus(ranks)
    if asked == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "device: cuda was asked for and this worker has none; use device=auto or device=cpu"
        )
    if asked == "auto":
        # A GPU may be counted that CUDA does not start on, such as where the driver is too old.
        enough = torch.cuda.is_available() and torch.cuda.device_count() >= ranks
        return torch.device("cuda" if enough else "cpu")
    return torch.device(asked)


def describe_environment(device: torch.device, spec: PruneSpec, sandbox: str | None = None) -> Environment:
    """What the report says of the place where the run was done; `sandbox`: what it was started in."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return Environment(
        prunery=version("prunery"),
        python=platform.python_version(),
        versions={library: version(library) for library in _LIBRARIES},
        platform=f"{platform.system()} {platform.machine()}",
        device=f"{device.type}: {name}",
        threads=torch.get_num_threads(),
        seed=spec.seed,
        sandbox=sandbox,
    )


def processor() -> str:
    """The processor's own name where Linux tells it, else what Python knows."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else (platform.processor() or platform.machine())
