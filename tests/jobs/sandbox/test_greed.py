"""A stranger's program that takes all it can get: every limit holds, in every sandbox of this machine."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import psutil
import pytest

from jobs.sandbox.limits import Limits
from tests.jobs.sandbox.attacker import ORDINARY, Way, attack, skip_unless_here
from tests.processes import running_for

pytestmark = [
    pytest.mark.parametrize("way", [Way("bubblewrap"), Way("landlock")], ids=str),
    pytest.mark.skipif(sys.platform != "linux", reason="Linux only"),
]


@pytest.fixture(autouse=True)
def _here(way: Way) -> None:
    skip_unless_here(way)


def test_a_fork_bomb_is_bounded(way: Way, tmp_path: Path) -> None:
    body = """
made = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(600)
        made += 1
        if made > 500: break
except OSError as error:
    print("refused", error.errno == errno.EAGAIN, flush=True)
print(made, flush=True)
time.sleep(3)
"""
    outcome = attack(way, tmp_path, body, Limits(2 * 1024**3, 1024**2, processes=40))
    bounded = "refused True" in outcome.lines or "more than 40 processes" in outcome.reason
    assert bounded, outcome
    assert running_for(tmp_path) == []


@pytest.mark.parametrize("kind", ["one file", "many files", "without a name", "countless"])
def test_the_disk_is_not_filled(way: Way, tmp_path: Path, kind: str) -> None:
    body = {
        "one file": "open(folder / 'big', 'wb').write(bytes(100_000_000))",
        "many files": """
for number in range(100):
    (folder / str(number)).write_bytes(bytes(5_000_000)); time.sleep(0.02)
time.sleep(20)
""",
        "without a name": """
held = []
for number in range(100):
    held.append(open(folder / "x", "wb")); held[-1].write(bytes(5_000_000)); held[-1].flush()
    os.unlink(folder / "x"); time.sleep(0.02)
time.sleep(20)
""",
        "countless": """
for number in range(100_000):
    (folder / str(number)).touch()
time.sleep(20)
""",
    }[kind]
    outcome = attack(way, tmp_path, body, Limits(2 * 1024**3, 64 * 1024**2, 64))
    if kind == "one file":
        assert "File too large" in outcome.errors or outcome.status == -signal.SIGXFSZ
    else:
        assert "67,108,864 bytes that it may write" in outcome.reason


@pytest.mark.parametrize("kind", ["one process", "many processes", "shared"])
def test_memory_is_limited(way: Way, tmp_path: Path, kind: str) -> None:
    body = {
        "one process": "attempt('memory', lambda: len(bytearray(600_000_000)))",
        "many processes": """
for _ in range(8):
    if os.fork() == 0:
        held = bytearray(os.urandom(1_000_000)) * 150; time.sleep(30)
time.sleep(30)
""",
        "shared": """
import mmap
held = mmap.mmap(-1, 700_000_000)
for place in range(0, 700_000_000, 4096): held[place] = 1
time.sleep(30)
""",
    }[kind]
    outcome = attack(way, tmp_path, body, Limits(500_000_000, 1024**2, 64))
    if kind == "one process":
        assert "MemoryError" in outcome.of("memory")
    else:
        assert "500,000,000 bytes of memory" in outcome.reason


def test_processor_time_is_limited(way: Way, tmp_path: Path) -> None:
    limits = Limits(ORDINARY.memory_bytes, ORDINARY.disk_bytes, 64, cpu_seconds=1)
    assert attack(way, tmp_path, "while True: pass", limits).status == -signal.SIGXCPU


def test_what_it_says_without_end_is_not_kept(way: Way, tmp_path: Path) -> None:
    body = (
        "for _ in range(200): os.write(1, b'x' * 1_000_000); os.write(2, b'y' * 1_000_000)\nprint('\\nend')"
    )
    before = psutil.Process().memory_info().rss
    outcome = attack(way, tmp_path, body)
    assert outcome.lines[-1:] == ["end"]
    assert psutil.Process().memory_info().rss - before < 100_000_000
