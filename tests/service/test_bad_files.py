"""Files that cannot be what they should be are refused at POST, each with its code, and leave nothing."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from jobs.settings import Settings
from tests.service.conftest import Api, running
from tests.service.samples import assert_problem, npz, small_onnx, zipped

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\x00" * 100


@pytest.mark.parametrize(
    ("model", "filename", "code"),
    [
        (b"", "net.onnx", "model_empty"),
        (PNG, "net.onnx", "model_format_unknown"),
        (pickle.dumps({"weight": [1.0, 2.0]}), "net.pt", "model_format_unknown"),
        (zipped("archive/data.pkl", "archive/data/0"), "weights.pt", "model_format_unknown"),
        (small_onnx()[:-5], "net.onnx", "model_invalid"),
        (small_onnx()[:60], "net.onnx", "model_invalid"),
        (b"PK\x03\x04" + b"0" * 500, "net.pt", "model_invalid"),
    ],
)
def test_a_bad_model_is_refused_at_once(api: Api, model: bytes, filename: str, code: str) -> None:
    assert filename in assert_problem(api.submit(model, filename), 422, code, "model")
    assert api.stored() == []


def test_torchscript_can_be_switched_off(settings: Settings) -> None:
    model = zipped("m/constants.pkl", "m/code/x.py", "m/data.pkl")
    with running(settings.model_copy(update={"allow_torchscript": False})) as api:
        for name in ("net.pt", "net.onnx"):  # the content says what it is
            assert "code" in assert_problem(api.submit(model, name), 422, "model_format_off", "model")
        files = {"model": ("net.pt", model)}
        assert_problem(api.client.post("/models/inspect", files=files), 422, "model_format_off", "model")
        assert api.submit().status_code == 202
        assert len([path for path in api.stored() if path.name == "model"]) == 1


@pytest.mark.parametrize(
    ("data", "filename", "code"),
    [
        (b"", "d.npz", "data_empty"),
        (PNG, "d.npz", "data_format_unknown"),
        (zipped("cat/1.png", "../x"), "d.zip", "data_unsafe"),
        (npz(x=np.zeros(3), y=np.array([{}, []], dtype=object)), "d.npz", "data_unsafe"),
        (npz(x=np.zeros(300))[:-30], "d.npz", "data_invalid"),
        (pickle.dumps([1]), "d.csv", "data_format_unknown"),
    ],
)
def test_bad_data_is_refused_at_once(api: Api, data: bytes, filename: str, code: str) -> None:
    files = {"model": ("net.onnx", small_onnx()), "dataset": (filename, data)}
    response = api.client.post("/jobs", files=files, data={"density": "0.5"})
    assert filename in assert_problem(response, 422, code, "dataset")
    assert api.stored() == []


@pytest.mark.parametrize("density", ["0", "1.5", "abc", "NaN", "nan", "-0.1", "inf", "0x1", "1e400"])
def test_a_density_outside_0_to_1_is_refused(api: Api, density: str) -> None:
    assert "density" in assert_problem(api.submit(density=density), 422, "spec_invalid", "density")
    assert api.stored() == []


@pytest.mark.parametrize(
    "name", ["cifar11", "../secret", "/etc/passwd", "hf:", "hf:a/b/c", "a b", "x" * 5000]
)
def test_a_data_set_that_nobody_knows_is_refused(api: Api, name: str) -> None:
    assert_problem(api.submit(dataset=name), 422, "dataset_unknown", "dataset")
    assert api.stored() == []


def test_a_data_set_of_the_hub_is_taken_where_the_settings_let_it_or_where_it_lies_here(
    settings: Settings, tmp_path: Path
) -> None:
    with running(settings) as api:
        assert_problem(api.submit(dataset="hf:owner/name"), 422, "hub_datasets_off", "dataset")
        assert api.stored() == []
    (tmp_path / "hf--owner--name.npz").write_bytes(b"")
    for chosen in ({"hub_datasets": True}, {"datasets_dir": tmp_path}):
        with running(settings.model_copy(update=chosen)) as api:
            assert api.submit(dataset="hf:owner/name").status_code == 202


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", "0"),
        ("epochs", "2.5"),
        ("seed", "-1"),
        ("effort", "enormous"),
        ("preprocess", "{}}"),
        ("preprocess", '{"std": [0]}'),
        ("max_minutes", "NaN"),
        ("device", "tpu"),
    ],
)
def test_a_field_out_of_range_is_refused_by_name(api: Api, field: str, value: str) -> None:
    assert field in assert_problem(api.submit(**{field: value}), 422, "spec_invalid", field)


def test_a_tokenizer_that_is_none_is_refused(api: Api) -> None:
    files = {"model": ("net.onnx", small_onnx()), "tokenizer": ("tokenizer.json", PNG)}
    response = api.client.post("/jobs", files=files, data={"density": "0.5", "dataset": "digits"})
    assert_problem(response, 422, "data_format_unknown", "tokenizer")
