"""Models in other files than a single ONNX: sent to a service as any other, and pruned."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tests.end_to_end.conftest import Service
from tests.end_to_end.pruned import nonzero
from tests.trained import digits_net

TOTAL = 64 * 64 + 64 * 32 + 32 * 10
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def pt2(digits: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "digits.pt2"
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    example = (torch.zeros(2, 1, 8, 8),)
    torch.export.save(torch.export.export(digits_net(digits).eval(), example, dynamic_shapes=shapes), path)
    return path


@pytest.fixture(scope="module")
def bundle(digits_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("bundle")
    onnx.save(
        onnx.load(digits_onnx),
        folder / "net.onnx",
        save_as_external_data=True,
        location="net.data",
        size_threshold=0,
    )
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name in ("net.onnx", "net.data"):
            archive.write(folder / name, f"exported/{name}")
    return held.getvalue()


def report_of(service: Service, job: dict[str, Any]) -> dict[str, Any]:
    report: dict[str, Any] = service.client.get(f"/jobs/{job['id']}/report").raise_for_status().json()
    return report


def test_a_torch_export_archive_is_pruned_under_its_own_names(service: Service, pt2: Path) -> None:
    job = service.run(pt2, "digits", density=0.3, epochs=8)
    assert job["status"] == "succeeded", job["error"]
    assert nonzero(service.model(job)) == (round(0.3 * TOTAL), TOTAL)
    report = report_of(service, job)
    assert report["model"]["format"] == "pt2"
    assert report["model"]["route"].startswith("torch.onnx.export of a torch.export program")
    assert {layer["name"] for layer in report["layers"]} == {"1.weight", "3.weight", "5.weight"}


def test_a_zip_with_data_files_comes_back_as_one(service: Service, bundle: bytes, tmp_path: Path) -> None:
    job = service.run(bundle, "digits", density=0.3, epochs=8)
    assert job["status"] == "succeeded", job["error"]
    assert "model.zip" in [file["name"] for file in job["result"]["artifacts"]]
    with zipfile.ZipFile(io.BytesIO(service.model(job))) as archive:
        assert archive.namelist() == ["exported/net.onnx", "exported/net.data"]
        archive.extractall(tmp_path)
    whole = onnx.load(tmp_path / "exported" / "net.onnx")
    assert nonzero(whole.SerializeToString()) == (round(0.3 * TOTAL), TOTAL)
    onnxruntime.InferenceSession(tmp_path / "exported" / "net.onnx", providers=["CPUExecutionProvider"])


def test_shapes_of_torchscript_inputs_may_be_sent(
    service: Service, digits: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "digits.pt"
    torch.jit.script(digits_net(digits).eval()).save(str(path))
    job = service.run(
        path, "digits", density=0.3, epochs=4, input_specs='{"input": [[null, 1, 8, 8], "float32"]}'
    )
    assert job["status"] == "succeeded", job["error"]
    answer = service.submit(path, "digits", density=0.3, input_specs='{"input": [[null, 1, 8, 8], "text"]}')
    assert (answer.status_code, answer.json()["param"]) == (422, "input_specs")
