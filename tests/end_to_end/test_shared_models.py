"""Trained models that nobody in this project made, in both formats, for a few steps on part of their data.

Whole runs of them are `benchmarks/curl_jobs.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.conftest import Service
from tests.end_to_end.pruned import nonzero


@pytest.fixture(scope="module")
def some_of_cifar10(shared_datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 2,560 training and 500 test rows."""
    path = tmp_path_factory.mktemp("cifar10") / "part.npz"
    with np.load(shared_datasets / "cifar10.npz") as whole:
        rows = {"train": 2560, "test": 500}
        np.savez(path, **{f"{a}_{s}": whole[f"{a}_{s}"][:n] for s, n in rows.items() for a in ("x", "y")})
    return path


@pytest.mark.parametrize("name", ["resnet20.onnx", "resnet20.torchscript.pt"])
def test_resnet20_on_cifar10_is_pruned_to_a_half(
    service: Service, shared_models: Path, some_of_cifar10: Path, name: str
) -> None:
    model = shared_models / "cifar10_resnet" / name
    job = service.run(model, some_of_cifar10, density=0.5, epochs=1)
    assert job["status"] == "succeeded", job["error"]
    kept, total = nonzero(service.model(job))
    assert kept == round(0.5 * total)
    report = service.report(job)
    assert report["quality"]["dense"]["value"] > 90
    assert report["data"]["preprocess"]["chosen"]["mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert report["quality"]["pruned"]["value"] > 80
