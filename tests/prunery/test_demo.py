"""The demo runs on machines that have no sandbox, and only there without one."""

from __future__ import annotations

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
