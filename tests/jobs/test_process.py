"""Limits that a child is started with, and words for how it ended."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys

import pytest

from jobs.process import die_with_parent, ended

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


def started(program: str, limits: dict[int, int]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, preexec_fn=die_with_parent(limits)
    )


def test_a_child_has_no_more_than_its_limits() -> None:
    limits = {resource.RLIMIT_DATA: 200_000_000, resource.RLIMIT_CORE: 0}
    program = "import resource; print(*resource.getrlimit(resource.RLIMIT_DATA)); bytes(300_000_000)"
    done = started(program, limits)
    assert done.stdout.split() == ["200000000", "200000000"]
    assert "MemoryError" in done.stderr


def test_a_process_that_runs_out_of_processor_time_ends_by_the_signal_that_says_so() -> None:
    done = started("while True: pass", {resource.RLIMIT_CPU: 1})
    assert done.returncode == -signal.SIGXCPU
    assert "processor time" in ended(done.returncode)


def test_one_that_ignores_the_signal_is_killed_all_the_same() -> None:
    program = "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    assert started(program, {resource.RLIMIT_CPU: 1}).returncode == -signal.SIGKILL


def test_a_limit_above_our_own_is_our_own() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    program = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[1])"
    done = started(program, {resource.RLIMIT_NOFILE: hard + 1000})
    assert done.stdout.strip() == str(hard)


@pytest.mark.parametrize(
    ("status", "words"),
    [(3, "exit status 3"), (-11, "SIGSEGV: native code crashed"), (-9, "SIGKILL"), (-250, "signal 250")],
)
def test_the_end_of_a_process_in_words(status: int, words: str) -> None:
    assert words in ended(status)
