"""The demo, as a newcomer runs it; also on machines that have no sandbox, and only there without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jobs.errors import SandboxUnavailableError
from prunery import demo


def _none(_: object) -> None:
    raise SandboxUnavailableError("there is no sandbox to run models in")


def test_where_there_is_no_sandbox_the_demo_does_without_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SANDBOX", raising=False)
    monkeypatch.setattr(demo, "sandbox_of", _none)
    assert demo.sandbox() == {"SANDBOX": "off"}
    assert "SANDBOX=off, as this is our own model" in capsys.readouterr().out


def test_a_sandbox_that_was_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "sandbox_of", _none)
    monkeypatch.setenv("SANDBOX", "bubblewrap")
    assert demo.sandbox() == {}


def test_where_there_is_a_sandbox_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SANDBOX", raising=False)
    monkeypatch.setattr(demo, "sandbox_of", lambda _: None)
    assert demo.sandbox() == {}


def test_it_prunes_over_http_and_shows_the_report(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prunery.demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1908" in done.stdout  # 5 % of 38,160 weights
    report = (tmp_path / "out" / "demo" / "report.html").read_text()
    assert "digits.onnx" in report
    assert (tmp_path / "out" / "demo" / "model.pruned.onnx").stat().st_size > 100_000
