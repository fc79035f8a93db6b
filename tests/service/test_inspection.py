"""Looking through models over HTTP: real uvicorn, real children; nothing queued, nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from jobs.settings import Settings
from jobs.store import JobStore
from prune_engine.inspection import Inspection
from service.openapi.inspections import EXAMPLE
from tests.service.conftest import Api
from tests.service.inspecting import (
    SOUND,
    STRANGE,
    answering,
    check,
    look,
    nothing_is_left,
    sent,
    standing_in,
)
from tests.service.samples import assert_problem, npz, small_onnx


class TestInspect:
    def test_a_sound_model_is_described_and_nothing_stays(self, api: Api, store: JobStore) -> None:
        response = look(api, density="0.1")
        assert response.status_code == 200, response.text
        found = Inspection.model_validate_json(response.content)
        assert found.prunable
        assert (found.filename, found.bytes, found.format) == ("net.onnx", len(SOUND), "onnx")
        assert found.density is not None
        assert found.density.kept == 4
        assert [weight.name for weight in found.weights] == ["w1", "w2"]
        nothing_is_left(api, store)

    def test_a_page_by_accept_or_by_format(self, settings: Settings, tmp_path: Path) -> None:
        browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
        with standing_in(settings, tmp_path, answering(EXAMPLE)) as api:
            pages = (
                api.client.post("/models/inspect", files=sent(), headers=browser),
                api.client.post("/models/inspect?format=html", files=sent()),
                api.client.post(
                    "/jobs?validate_only=true&format=html",
                    files=sent(),
                    data={"density": "0.5", "dataset": "digits"},
                ),
            )
            for page in pages:
                assert page.headers["content-type"].startswith("text/html")
                assert "This model can be pruned." in page.text
            as_json = api.client.post("/models/inspect?format=json", files=sent(), headers=browser)
            assert as_json.json() == EXAMPLE.model_dump(mode="json")
            neither = api.client.post("/models/inspect?format=xml", files=sent())
            assert_problem(neither, 422, "parameter_invalid", "format")

    def test_unsupported_operators_are_listed_in_an_answer_of_200(self, api: Api) -> None:
        found = look(api, STRANGE).json()
        assert not found["prunable"]
        assert found["problems"][0]["code"] == "operator_unsupported"
        assert found["operators"][0]["nodes"] == ["first stranger", "second stranger"]
        assert found["weights"]

    def test_torchscript_needs_its_input_specs(self, api: Api, tmp_path: Path) -> None:
        net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
        torch.jit.trace(net.eval(), torch.zeros(1, 3, 2, 2)).save(tmp_path / "net.pt")
        model = (tmp_path / "net.pt").read_bytes()
        assert_problem(look(api, model, "net.pt"), 422, "model_conversion_failed", "model")
        specs = json.dumps({"input": [[None, 3, 2, 2], "float32"]})
        found = look(api, model, "net.pt", input_specs=specs).json()
        assert found["format"] == "torchscript"
        assert [weight["count"] for weight in found["weights"]] == [60]

    def test_data_may_come_along(self, api: Api, store: JobStore) -> None:
        good = npz(x_train=[[0.0] * 4] * 40, y_train=[0, 1, 2, 1] * 10)
        bad = npz(x_train=[[0.0] * 5] * 40, y_train=[0, 1, 2, 1] * 10)
        fitting, other = (
            api.client.post("/models/inspect", files=sent() | {"dataset": ("mine.npz", data)}).json()
            for data in (good, bad)
        )
        assert (fitting["data"]["name"], fitting["data"]["classes"]) == ("mine.npz", 3)
        assert [problem["code"] for problem in other["problems"]] == ["data_shape_mismatch"]
        nothing_is_left(api, store)

    @pytest.mark.parametrize(
        ("model", "fields", "code", "param"),
        [
            (b"\x89PNG\r\n\x1a\n" + bytes(600), {}, "model_format_unknown", "model"),
            (b"", {}, "model_empty", "model"),
            (SOUND[:-20], {}, "model_invalid", "model"),
            (SOUND, {"density": "7"}, "spec_invalid", "density"),
            (SOUND, {"densty": "0.1"}, "field_unknown", "densty"),
            (SOUND, {"dataset": "no_such_set"}, "dataset_unknown", "dataset"),
        ],
    )
    def test_what_cannot_be_looked_through_is_a_problem(
        self, api: Api, store: JobStore, model: bytes, fields: dict[str, str], code: str, param: str
    ) -> None:
        assert_problem(look(api, model, **fields), 422, code, param)
        nothing_is_left(api, store)

    def test_the_model_is_required_and_nothing_else(self, api: Api) -> None:
        without = api.client.post("/models/inspect", files={"density": (None, "0.1")})
        assert_problem(without, 422, "field_missing", "model")

    def test_a_data_set_that_is_not_here_is_said_not_to_be_checked(self, api: Api) -> None:
        found = look(api, dataset="cifar100").json()
        assert found["data"] is None
        assert any("'cifar100' is not on this machine" in warning for warning in found["warnings"])

    def test_outcomes_are_counted(self, settings: Settings, tmp_path: Path) -> None:
        with standing_in(settings, tmp_path, answering(EXAMPLE)) as api:
            look(api)
            look(api)
            look(api, b"")
            metrics = api.client.get("/metrics").text
        assert 'prunery_inspections_total{outcome="prunable"} 2.0' in metrics
        assert 'prunery_inspections_total{outcome="model_empty"} 1.0' in metrics


class TestValidateOnly:
    def test_a_job_that_would_run_is_described_and_not_queued(self, api: Api, store: JobStore) -> None:
        data = npz(x_train=[[0.0] * 4] * 40, y_train=[0, 1, 2, 1] * 10)
        response = check(api, sent() | {"dataset": ("mine.npz", data)})
        assert response.status_code == 200, response.text
        found = response.json()
        assert found["prunable"]
        assert found["density"]["kept"] == 21
        assert found["time"]["steps"] > 0
        nothing_is_left(api, store)

    def test_a_built_in_data_set_is_checked(self, api: Api, store: JobStore) -> None:
        detail = assert_problem(check(api), 422, "data_shape_mismatch", "dataset")
        assert "(8, 8)" in detail
        nothing_is_left(api, store)

    def test_the_problem_is_the_one_that_the_job_would_fail_with(self, api: Api) -> None:
        detail = assert_problem(check(api, sent(STRANGE)), 422, "operator_unsupported", "model")
        assert "Mystery" in detail

    def test_the_form_is_that_of_a_job(self, api: Api) -> None:
        assert_problem(
            api.client.post("/jobs?validate_only=true", files=sent()), 422, "field_missing", "density"
        )
        no_data = api.client.post("/jobs?validate_only=true", files=sent(), data={"density": "0.5"})
        assert_problem(no_data, 422, "field_missing", "dataset")

    def test_without_the_parameter_a_job_is_queued(self, api: Api, store: JobStore) -> None:
        form = {"density": "0.5", "dataset": "digits"}
        response = api.client.post("/jobs?validate_only=false", files=sent(small_onnx()), data=form)
        assert response.status_code == 202
        assert len(store.page(10)[0]) == 1
