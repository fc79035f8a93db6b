"""The threads that a child is told of: the setting, else no more than the container may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import child_environment as subject
from jobs.child_environment import child_environment
from jobs.settings import Settings


@pytest.mark.parametrize(
    ("setting", "usable", "told"), [(None, None, None), (None, 2, "2"), (5, 2, "5"), (5, None, "5")]
)
def test_a_child_has_as_many_threads_as_it_may_use(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: int | None,
    usable: int | None,
    told: str | None,
) -> None:
    monkeypatch.setattr(subject, "fewer_than_there_are", lambda: usable)
    settings = Settings(_env_file=None, data_dir=tmp_path, child_threads=setting)
    environment = child_environment(settings, tmp_path)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    assert [environment.get(name) for name in names] == [told] * 3
