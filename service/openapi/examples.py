"""Examples of what the API answers; a test holds them to the models that they are examples of."""

from __future__ import annotations

from typing import Any, Final

from prune_engine.spec import PruneSpec

JOB_ID: Final = "job_019e3a5c7d10a1b2c3d4e5"
_SHA: Final = "5b1f0f6e1f0d1f1fd6d2a5c8b53d1e6fbb0c1b5d6a1e0f3f9a7c2e4d8b6a0c1e"

QUEUED: Final[dict[str, Any]] = {
    "id": JOB_ID,
    "object": "job",
    "owner": "4216012d2f86",
    "status": "queued",
    "stage": None,
    "progress": {"fraction": 0.0, "step": 0, "total_steps": 0, "eta_seconds": None},
    "priority": "normal",
    "queue_position": 0,
    "spec": PruneSpec(density=0.1).model_dump(mode="json"),
    "model": {"filename": "resnet20.onnx", "format": "onnx", "bytes": 1094681, "sha256": _SHA},
    "dataset": {"source": "named", "name": "cifar10", "format": "npz", "bytes": None, "sha256": None},
    "tokenizer": None,
    "created_at": "2026-11-20T14:50:00.123456Z",
    "started_at": None,
    "finished_at": None,
    "attempt": 0,
    "checkpoint": None,
    "error": None,
    "result": None,
    "expires_at": None,
    "webhook": None,
    "links": {
        "self": f"/jobs/{JOB_ID}",
        "events": f"/jobs/{JOB_ID}/events",
        "cancel": f"/jobs/{JOB_ID}/cancel",
        "pause": f"/jobs/{JOB_ID}/pause",
        "resume": None,
        "retry": None,
        "model": None,
        "report": None,
    },
}
RUNNING: Final[dict[str, Any]] = QUEUED | {
    "status": "running",
    "stage": "pruning",
    "progress": {"fraction": 0.31, "step": 1200, "total_steps": 3900, "eta_seconds": 412.0},
    "queue_position": None,
    "started_at": "2026-11-20T14:50:00.400000Z",
    "attempt": 1,
}
_HELD: Final = QUEUED["links"] | {"pause": None}
CANCELLING: Final[dict[str, Any]] = RUNNING | {"status": "cancelling", "links": _HELD}
PAUSING: Final[dict[str, Any]] = RUNNING | {"status": "pausing", "links": _HELD}
PAUSED: Final[dict[str, Any]] = RUNNING | {
    "status": "paused",
    "stage": None,
    "checkpoint": {"step": 1200, "total_steps": 3900, "saved_at": "2026-11-20T14:53:12.000000Z"},
    "links": _HELD | {"resume": f"/jobs/{JOB_ID}/resume"},
}
CANCELLED: Final[dict[str, Any]] = QUEUED | {
    "status": "cancelled",
    "queue_position": None,
    "finished_at": "2026-11-20T14:50:04.000000Z",
    "links": _HELD | {"cancel": None, "retry": f"/jobs/{JOB_ID}/retry"},
}
FAILED: Final[dict[str, Any]] = CANCELLED | {
    "status": "failed",
    "started_at": "2026-11-20T14:50:00.400000Z",
    "attempt": 1,
    "error": {
        "code": "labels_out_of_range",
        "message": "label 12 in row 7 is beyond the model's 10 classes; labels are 0 to 9",
        "param": "dataset",
    },
}
SUCCEEDED: Final[dict[str, Any]] = RUNNING | {
    "status": "succeeded",
    "stage": "verifying",
    "progress": {"fraction": 1.0, "step": 3900, "total_steps": 3900, "eta_seconds": 0.0},
    "finished_at": "2026-11-20T15:01:12.000000Z",
    "result": {
        "density": 0.1,
        "metrics": {
            "metric": "accuracy",
            "before": {"accuracy": 91.0, "loss": 0.4, "bytes": 1094681},
            "after": {"accuracy": 89.0, "loss": 0.4, "bytes": 1094681},
        },
        "artifacts": [
            {
                "name": "model.onnx",
                "url": f"/jobs/{JOB_ID}/artifacts/model.onnx",
                "bytes": 1094681,
                "sha256": _SHA,
            }
        ],
    },
    "links": {
        "self": f"/jobs/{JOB_ID}",
        "events": f"/jobs/{JOB_ID}/events",
        "cancel": None,
        "pause": None,
        "resume": None,
        "retry": None,
        "model": f"/jobs/{JOB_ID}/model",
        "report": f"/jobs/{JOB_ID}/report",
    },
}
JOBS: Final[dict[str, Any]] = {"object": "list", "data": [QUEUED], "has_more": False}

_EVENTS: Final[list[dict[str, Any]]] = [
    {"id": "1795618200123-0", "type": "status", "time": 1795618200.123, "status": "queued"},
    {"id": "1795618200400-0", "type": "status", "time": 1795618200.4, "status": "running"},
    {
        "id": "1795618203000-0",
        "type": "progress",
        "time": 1795618203.0,
        "stage": "pruning",
        "progress": {"fraction": 0.31, "step": 1200, "total_steps": 3900, "eta_seconds": 412.0},
        "metrics": {"loss": 0.62, "density": 0.35},
    },
]
EVENTS: Final[dict[str, Any]] = {"object": "list", "data": _EVENTS, "has_more": False}
EVENT_STREAM: Final = (
    "id: 1795618200123-0\n"
    "event: status\n"
    'data: {"type":"status","time":1795618200.123,"status":"queued"}\n\n'
    ": ping\n\n"
)
DELIVERY_ID: Final = "msg_019e3a5c7d10f1e2d3c4b5a69788"
DELIVERY: Final[dict[str, Any]] = {
    "id": DELIVERY_ID,
    "object": "delivery",
    "type": "job.succeeded",
    "status": "delivered",
    "created_at": "2026-11-20T15:01:12.000000Z",
    "next_attempt_at": None,
    "attempts": [
        {
            "at": "2026-11-20T15:01:12.500000Z",
            "seconds": 0.021,
            "status": 503,
            "error": "the receiver answered 503; only 2xx counts as delivered",
        },
        {"at": "2026-11-20T15:01:18.100000Z", "seconds": 0.018, "status": 204, "error": None},
    ],
    "links": {"send": f"/jobs/{JOB_ID}/webhook/deliveries/{DELIVERY_ID}/send"},
}
DELIVERIES: Final[dict[str, Any]] = {"object": "list", "data": [DELIVERY], "has_more": False}
SENT_AGAIN: Final[dict[str, Any]] = DELIVERY | {
    "status": "pending",
    "next_attempt_at": "2026-11-20T15:05:00.000000Z",
}
DATASETS: Final[dict[str, Any]] = {
    "object": "list",
    "data": [
        {
            "name": "digits",
            "title": "Handwritten digits, 8x8",
            "kind": "image",
            "task": "classification",
            "classes": 10,
            "rows": 1797,
            "licence": "CC BY 4.0",
            "source": "built in",
            "available": True,
            "note": "",
        }
    ],
    "has_more": False,
}
HEALTH: Final[dict[str, Any]] = {"status": "ok"}
_SANDBOX: Final = "Landlock 7 (its own files) and seccomp (no network)"
READY: Final[dict[str, Any]] = {
    "status": "ready",
    "parts": {
        "store": {"ready": True, "detail": "answers"},
        "artifacts": {"ready": True, "detail": "answers"},
        "disk": {"ready": True, "detail": "artifacts 54.5 GB free, scratch 54.5 GB free"},
        "workers": {"ready": True, "detail": f"1 alive; models run in {_SANDBOX}"},
        "sandbox": {"ready": True, "detail": _SANDBOX},
    },
}
NOT_READY: Final[dict[str, Any]] = {
    "status": "not ready",
    "parts": {
        **READY["parts"],
        "workers": {"ready": False, "detail": "no worker lives; start one: python -m worker"},
    },
}
METRICS: Final = "# TYPE prunery_queue_depth gauge\nprunery_queue_depth 3.0\n"
INDEX: Final[dict[str, Any]] = {
    "name": "Prunery",
    "version": "0.1.0",
    "docs": "/docs",
    "openapi": "/openapi.json",
    "jobs": "/jobs",
    "datasets": "/datasets",
    "health": "/healthz",
    "ready": "/readyz",
    "metrics": "/metrics",
    "submit": "curl -F model=@model.onnx -F density=0.1 -F dataset=digits http://localhost:8000/jobs",
}
