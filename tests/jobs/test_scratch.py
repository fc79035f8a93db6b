from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path
from typing import IO

import psutil
import pytest

from jobs.scratch import Scratch


def test_a_folder_is_gone_when_its_job_is_over_even_after_a_failure(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, "worker-1")

    def fail() -> None:
        with scratch.folder("job_1") as folder:
            locked = folder / "locked"
            locked.mkdir()
            (locked / "file").write_text("x")
            locked.chmod(0o000)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not (tmp_path / "worker-1" / "job_1").exists()


def test_a_worker_leaves_nothing(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, "worker-1")
    scratch.close()
    assert list(tmp_path.iterdir()) == []


def test_what_outlived_a_dead_worker_in_its_folder_is_ended(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys; from pathlib import Path; from jobs.scratch import Scratch\n"
        "s = Scratch(Path(sys.argv[1]), 'dead')\n"
        "with s.folder('job_1') as f:\n"
        "    p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], cwd=f, stdout=2)\n"
        "    print(p.pid, flush=True); os._exit(9)"
    )
    dead = subprocess.run([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, check=False)
    left = psutil.Process(int(dead.stdout))
    assert left.is_running()
    Scratch(tmp_path, "new")
    psutil.wait_procs([left], timeout=5)
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE


def test_one_that_is_just_being_made_is_not_taken_for_a_dead_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process cleans up at the worst moment: the lock file is there, and not locked yet."""
    lock = fcntl.flock

    def slowly(file: IO[bytes], how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        Scratch.remove_abandoned(tmp_path)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", slowly)
    scratch = Scratch(tmp_path, "worker-1")
    Scratch.remove_abandoned(tmp_path)
    with scratch.folder("job_1") as folder:
        assert folder.is_dir()


def test_what_a_living_worker_uses_stays_and_what_a_dead_one_left_goes(tmp_path: Path) -> None:
    living = Scratch(tmp_path, "living")
    code = (
        "import os, sys; from pathlib import Path; from jobs.scratch import Scratch\n"
        "s = Scratch(Path(sys.argv[1]), 'dead')\n"
        "with s.folder('job_1') as f: (f / 'model').write_text('x'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / "dead" / "job_1" / "model").exists()
    with living.folder("job_2") as folder:
        Scratch(tmp_path, "new")
        assert folder.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["living", "new"]


def test_what_a_link_leads_to_keeps_its_rights(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x")
    outside.chmod(0o644)
    scratch = Scratch(tmp_path / "scratch", "worker-1")
    with scratch.folder("job_1") as folder:
        locked = folder / "locked"
        locked.mkdir()
        (locked / "link").symlink_to(outside)
        locked.chmod(0o500)
    assert outside.stat().st_mode & 0o777 == 0o644
