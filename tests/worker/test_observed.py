"""What is left to see of a job: lines in the log, figures in the store."""

from __future__ import annotations

import json
import logging
import sys

import pytest
import structlog

from jobs import logs
from tests.stores import a_job
from tests.worker.conftest import Bench

CHILD = """
import json, os, sys, time
sys.stderr.write(open("job.json").read() + "\\nloading\\n")
for n in range({lines}):
    sys.stderr.write(f"line {{n}}\\n")
ballast = bytearray({ballast})
ballast[::4096] = b"x" * len(ballast[::4096])
time.sleep(1.5)
open("out/model.onnx", "wb").write(b"pruned")
open("out/report.json", "w").write("{{}}")
said = {{"type": "done", "density": 0.1, "metrics": {{}}, "outputs": ["model.onnx", "report.json"]}}
print(json.dumps(said))
"""


@pytest.fixture
def run(bench: Bench, capsys: pytest.CaptureFixture[str]) -> object:
    def run(lines: int = 3, ballast: int = 0) -> list[dict[str, object]]:
        path = bench.folder / "child.py"
        path.write_text(CHILD.format(lines=lines, ballast=ballast))
        bench.settings = bench.settings.model_copy(update={"child_command": (sys.executable, str(path))})
        root = logging.getLogger()
        before = root.handlers, root.level
        try:
            logs.configure(logging.INFO, "json")
            supervisor = bench.supervisor("good", child_command=(sys.executable, str(path)))
            job = a_job(request_id="req_of_the_user")
            model = bench.folder / "model"
            model.write_bytes(b"a model")
            from jobs.artifacts import input_key

            bench.artifacts.put_file(input_key(job.id, "model"), model)
            bench.store.create(job)
            supervisor.run(job.id)
        finally:
            root.handlers, root.level = before
            structlog.reset_defaults()
        assert bench.store.get(job.id).error is None
        return [json.loads(line) for line in capsys.readouterr().err.splitlines() if line[:1] == "{"]

    return run


def test_every_line_about_a_job_and_each_of_its_child_has_both_ids(run: object) -> None:
    lines = run()  # type: ignore[operator]
    assert {line.get("request_id") for line in lines} == {"req_of_the_user"}
    assert len({line.get("job_id") for line in lines}) == 1
    said = [str(line["event"]) for line in lines]
    assert "child: loading" in said
    assert "child: line 2" in said
    about = next(line for line in said if line.startswith("child: {"))
    assert json.loads(about.removeprefix("child: "))["request_id"] == "req_of_the_user"


def test_a_child_cannot_fill_the_log(run: object) -> None:
    assert len(run(lines=100_000)) < 300  # type: ignore[operator]


def test_the_most_memory_of_a_child_is_counted(run: object, bench: Bench) -> None:
    run(ballast=300 * 1024**2)  # type: ignore[operator]
    totals = bench.store.totals()
    assert totals["memory:count"] == 1
    assert 300e6 < totals["memory:sum"] / 1000 < 1e9
