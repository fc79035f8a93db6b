"""The parts that `prunery up` starts: what one of them said last time can still be read."""

from __future__ import annotations

import sys
from pathlib import Path

from prunery.parts import last_line, start_part


def test_a_restart_keeps_the_log_of_the_time_before(tmp_path: Path) -> None:
    log = tmp_path / "worker-1.log"
    for words in ("first", "second", "third"):
        command = [sys.executable, "-c", f"print({words!r})"]
        assert start_part("worker-1", command, {}, log, 5.0).process.wait(30) == 0
    assert last_line(log) == "third"
    assert last_line(tmp_path / "worker-1.log.1") == "second"
