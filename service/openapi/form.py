"""The multipart body of `POST /jobs` for OpenAPI; it is parsed by hand, so FastAPI cannot know it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from jobs.record import PRIORITIES
from prune_engine.spec import PruneSpec

_REF = "#/components/schemas/{model}"
_WEBHOOK: Final[dict[str, Any]] = {
    "webhook": {
        "type": "string",
        "format": "uri",
        "description": "Where to be told, by POST, how the job ends; only where the service lets it.",
        "examples": ["https://example.com/hooks/prunery"],
    },
    "webhook_secret": {
        "type": "string",
        "description": "What the messages are signed with (Standard Webhooks): whsec_ and 24 to 64 bytes in "
        "base64. Left out: the answer has a new one.",
        "examples": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    },
    "webhook_events": {
        "type": "string",
        "description": "Which of job.started, job.paused, job.succeeded, job.failed and job.cancelled, with "
        "commas. Left out: the last three.",
        "examples": ["job.succeeded,job.failed"],
    },
}


def spec_components() -> dict[str, Any]:
    """Schemas that the body refers to."""
    components: dict[str, Any] = PruneSpec.model_json_schema(ref_template=_REF).get("$defs", {})
    return components


def request_body(required: Sequence[str] = ("model", "dataset")) -> dict[str, Any]:
    """`requestBody` of `POST /jobs`, and of an operation that asks for fewer of its fields."""
    spec = PruneSpec.model_json_schema(ref_template=_REF)
    properties: dict[str, Any] = {
        "model": {
            "type": "string",
            "format": "binary",
            "description": "The trained model: an .onnx file, a .zip of one with its data files, TorchScript "
            "from torch.jit.save, or a .pt2 from torch.export.save.",
        },
        "dataset": {
            "description": "Name of a data set (GET /datasets, or hf:owner/name where the service lets it), "
            "or a file: .npz, .zip of image folders, .csv, .parquet.",
            "anyOf": [
                {"type": "string", "examples": ["cifar10"]},
                {"type": "string", "format": "binary"},
            ],
        },
        "tokenizer": {
            "type": "string",
            "format": "binary",
            "description": "A tokenizer.json, for models that read text.",
        },
        "priority": {
            "type": "string",
            "enum": list(PRIORITIES),
            "default": "normal",
            "description": "When the job is taken, as against others that wait: a high one before any normal "
            "one, a low one after all of them.",
        },
        "spec": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "Any of the fields below together, as a JSON object; a field must not come twice.",
            "examples": ['{"density": 0.1, "epochs": 2}'],
        },
        **spec["properties"],
        **_WEBHOOK,
    }
    return {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": list(required),
                    "properties": properties,
                    "additionalProperties": False,
                },
                "examples": {
                    "named": {
                        "summary": "A model and the name of a data set",
                        "value": {"model": "(resnet20.onnx)", "dataset": "cifar10", "density": 0.1},
                    },
                    "several densities": {
                        "summary": "One model at each of several densities, and the curve",
                        "value": {"model": "(net.onnx)", "dataset": "mnist", "frontier": [0.5, 0.2, 0.1]},
                    },
                    "own data": {
                        "summary": "A model and a file, with a shorter training",
                        "value": {
                            "model": "(net.onnx)",
                            "dataset": "(data.npz)",
                            "density": 0.05,
                            "effort": "quick",
                            "seed": 7,
                        },
                    },
                },
            }
        },
    }
