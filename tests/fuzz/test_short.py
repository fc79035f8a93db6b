"""The short form of `make fuzz`: some hundreds of mutated files and broken forms."""

from __future__ import annotations

import random

import httpx
import pytest

from tests.fuzz.corpus import corpus
from tests.fuzz.requests import Tally, by_multipart
from tests.fuzz.runner import Outcome, documented, file_of, run
from tests.service.conftest import Api

FAST = {
    "onnx": 60, "hostile": 30, "bundle": 30, "torchscript": 24, "npz": 60, "images": 40, "csv": 40,
    "parquet": 40, "tokenizer": 40,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_mutated_files_are_read_or_refused_with_a_code() -> None:
    tasks = [(kind, number) for kind, count in FAST.items() for number in range(count)]
    outcomes = list(run(tasks))
    assert [(one.kind, one.seed) for one in outcomes] == tasks
    assert [one for one in outcomes if one.failed] == []
    said = {one.said for one in outcomes}
    assert "accepted" in said
    assert len(said) > 8


def test_broken_forms_are_refused_with_a_code(api: Api) -> None:
    tally = Tally()
    by_multipart(api.url, range(150), tally)
    assert tally.failures == []
    assert len(tally.codes) > 5
    assert httpx.get(f"{api.url}/healthz").status_code == 200


def test_a_seed_makes_the_same_file_again() -> None:
    assert file_of("csv", 7) == file_of("csv", 7)
    assert file_of("csv", 7) != file_of("csv", 8)


def test_what_would_be_a_crash_a_hang_or_a_bug_is_a_failure() -> None:
    assert "model_invalid" in documented()
    assert not Outcome("onnx", 1, "model_invalid", 0.1).failed
    assert not Outcome("onnx", 1, "accepted", 0.1).failed
    for said in ("crash: SIGSEGV", "hang", "bug: KeyError", "internal_error", "made_up"):
        assert Outcome("onnx", 1, said, 0.1).failed


def test_there_is_a_corpus_of_every_kind() -> None:
    assert all(corpus().values())
    assert random.Random("x").random() == random.Random("x").random()
