"""A checkpoint is taken while the child still runs: no link that it puts in the way is followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.checkpoints import _link
from worker.outputs import OutputsError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    (folder / "stops").mkdir(parents=True)
    (folder / "stops" / "one.safetensors").write_text("a stop")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("hidden")
    return folder


@pytest.mark.parametrize("links", [True, False])
def test_a_file_gets_a_second_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", _refused)
    _link(folder, "stops/one.safetensors", tmp_path / "aside" / "one")
    assert (tmp_path / "aside" / "one").read_text() == "a stop"


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("kind", ["folder", "file", "pipe", "itself"])
def test_no_link_is_followed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", _refused)
    if kind == "folder":
        (folder / "x").symlink_to(tmp_path / "outside")
    else:
        (folder / "x").mkdir()
    if kind == "file":
        (folder / "x" / "secret").symlink_to(tmp_path / "outside" / "secret")
    if kind == "pipe":
        os.mkfifo(folder / "x" / "secret")
    if kind == "itself":
        (folder / "x" / "secret").mkdir()
    with pytest.raises((OSError, OutputsError)):
        _link(folder, "x/secret", tmp_path / "aside" / "one")
    assert not (tmp_path / "aside" / "one").exists()


def _refused(*_: object, **__: object) -> None:
    raise PermissionError
