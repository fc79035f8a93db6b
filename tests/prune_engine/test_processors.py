"""Processors that may be used: affinity, and quotas of both versions of control groups."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from prune_engine import processors as subject
from prune_engine.measure.runtime import session
from prune_engine.processors import prepare_libraries, processors, threads_asked_for
from tests.prune_engine.data.nets import mlp


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where control groups are mounted, on a machine with 64 processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    (tmp_path / "own").write_text("0::/\n")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("said", "usable"),
    [
        ("200000 100000", 2),
        ("50000 100000", 1),
        ("250000 100000", 3),
        ("max 100000", 64),
        ("", 64),
        ("9", 64),
    ],
)
def test_a_containers_quota_counts_rounded_up(groups: Path, said: str, usable: int) -> None:
    write(groups / "cpu.max", said)
    assert processors(groups, groups / "own") == usable


@pytest.mark.parametrize(("quota", "usable"), [("400000", 4), ("-1", 64)])
@pytest.mark.parametrize("name", ["cpu", "cpu,cpuacct"])
def test_so_does_that_of_the_first_version(groups: Path, name: str, quota: str, usable: int) -> None:
    write(groups / name / "cpu.cfs_quota_us", quota)
    write(groups / name / "cpu.cfs_period_us", "100000")
    assert processors(groups, groups / "own") == usable


def test_the_strictest_of_the_own_group_and_those_above_counts(groups: Path) -> None:
    write(groups / "own", "1:name=systemd:/x\n0::/system.slice/prunery.service/worker\n")
    write(groups / "system.slice/cpu.max", "800000 100000")
    write(groups / "system.slice/prunery.service/cpu.max", "300000 100000")
    write(groups / "system.slice/prunery.service/worker/cpu.max", "max 100000")
    write(groups / "other.slice/cpu.max", "100000 100000")
    assert processors(groups, groups / "own") == 3


def test_affinity_counts_and_where_there_is_no_quota_nothing_else(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert processors(groups, groups / "missing") == 2
    write(groups / "cpu.max", "100000 100000")
    assert processors(groups, groups / "missing") == 1


def test_libraries_are_told_of_a_limit_and_not_where_they_were_told_before(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(subject, "processors", lambda: 64)
    environment = {"GOMP_SPINCOUNT": "5"}
    prepare_libraries(environment)
    assert environment == {"GOMP_SPINCOUNT": "5"}
    assert threads_asked_for() is None
    monkeypatch.setattr(subject, "processors", lambda: 2)
    environment = {"MKL_NUM_THREADS": "7"}
    prepare_libraries(environment)
    assert environment == {
        "GOMP_SPINCOUNT": "1000",
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "7",
        "OPENBLAS_NUM_THREADS": "2",
    }
    assert threads_asked_for() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_asked_for() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert threads_asked_for() == 2


def test_onnxruntime_has_no_more_threads_than_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    model = mlp([(np.ones((4, 2)), np.zeros(2))])
    assert session(model).get_session_options().intra_op_num_threads == 1


@pytest.mark.parametrize("module", ["prune_engine.__main__", "prunery.cli"])
def test_commands_learn_of_a_limit_before_they_load_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules or 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
