"""Trained models that nobody in this project made, in both formats, for a short time each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.conftest import Service
from tests.end_to_end.pruned import nonzero


@pytest.mark.parametrize("name", ["resnet20.onnx", "resnet20.torchscript.pt"])
def test_resnet20_on_cifar10_is_pruned_to_a_fifth(
    service: Service, shared_models: Path, shared_datasets: Path, name: str
) -> None:
    model = shared_models / "cifar10_resnet" / name
    job = service.run(model, "cifar10", density=0.2, max_minutes=0.25)
    assert job["status"] == "succeeded", job["error"]
    kept, total = nonzero(service.model(job))
    assert kept == round(0.2 * total)
    report = service.report(job)
    assert report["quality"]["dense"]["value"] == pytest.approx(91.73, abs=0.005)
    assert report["data"]["preprocess"]["chosen"]["mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert report["quality"]["pruned"]["value"] > 50
