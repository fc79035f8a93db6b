"""onnxruntime refuses a model for the model's sake, or for want of memory: two things."""

from __future__ import annotations

import onnxruntime
import pytest

from prune_engine.errors import ModelError, OutOfMemoryError
from prune_engine.measure.runtime import session
from tests.prune_engine.formats.graphs import linear


def test_a_model_that_is_refused_is_the_sender_s_fault() -> None:
    with pytest.raises(ModelError, match="does not load"):
        session(b"no model")


def test_want_of_memory_is_nobody_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fails)
    with pytest.raises(OutOfMemoryError):
        session(linear())
