"""Which sandbox is chosen: what works, tried for real, with and without namespaces and privileges."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.errors import SandboxUnavailableError
from jobs.sandbox import choice, landlock, users
from jobs.sandbox.cell import Wish
from jobs.sandbox.choice import Sandbox, sandbox_of
from jobs.sandbox.limits import Limits
from jobs.settings import Settings
from tests.jobs.sandbox.attacker import ORDINARY, Way, finish, job_folder, skip_unless_here
from tests.prune_engine.test_ranks import job
from worker.child import Child

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")

ENOUGH_FOR_TORCH = Limits(8 * 1024**3, 1024**3, 512)
# As Docker's default profile: no new namespaces, no mounts, and clone3 as if it did not exist.
LIKE_DOCKER = """
import ctypes, os, sys
from jobs.sandbox import stage
from jobs.sandbox.policy import _bits, _NEW_NAMESPACES
from jobs.sandbox.program import Rule, Test, assemble
from jobs.sandbox.syscalls import architecture
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
rules = [Rule(name) for name in ("unshare", "mount", "umount2", "setns", "pivot_root", "open_tree", "fsopen")]
rules += [Rule("clone", (Test(0, (flag,), flag),)) for flag in _bits(_NEW_NAMESPACES)]
rules += [Rule("clone3", error=38)]
if os.environ.get("WITHOUT_LANDLOCK"):
    rules += [Rule("landlock_create_ruleset", error=38)]
if os.environ.get("AS_NOBODY"):
    os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
if not os.environ.get("WITH_NAMESPACES"):
    stage._install(libc, assemble(rules, architecture()))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
ASKED = """
import json
from jobs.errors import SandboxUnavailableError
from jobs.sandbox.choice import sandbox_of
from jobs.settings import Settings
try: print(json.dumps([sandbox_of(Settings(_env_file=None)).way, ""]))
except SandboxUnavailableError as error: print(json.dumps([error.code, error.message]))
"""


def chosen(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", LIKE_DOCKER, "-c", ASKED],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer: list[str] = json.loads(done.stdout)
    return answer


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    choice._found.cache_clear()
    yield
    choice._found.cache_clear()


def test_the_strongest_that_works_is_taken() -> None:
    skip_unless_here(Way("bubblewrap"))
    assert sandbox_of(Settings(_env_file=None)).way == "bubblewrap"


def test_where_namespaces_are_refused_landlock_is_taken() -> None:
    skip_unless_here(Way("landlock"))
    assert chosen() == ["landlock", ""]


def test_where_nothing_works_the_reasons_and_the_way_out_are_told() -> None:
    code, message = chosen(WITHOUT_LANDLOCK="1")
    assert code == "sandbox_unavailable"
    assert "bubblewrap: " in message
    assert "landlock: the kernel does not have it" in message
    assert "SANDBOX=off" in message


def test_what_is_asked_for_by_name_is_not_replaced() -> None:
    code, message = chosen(SANDBOX="bubblewrap")
    assert code == "sandbox_unavailable"
    assert "landlock: " not in message
    assert chosen(SANDBOX="off")[0] == "off"


@pytest.mark.parametrize(
    ("way", "environment"), [("bubblewrap", {"WITH_NAMESPACES": "1"}), ("landlock", {})], ids=str
)
def test_root_is_not_needed(way: str, environment: dict[str, str]) -> None:
    if os.geteuid() != 0 or not users.reachable(Path(sys.executable)):
        pytest.skip("only root can become nobody, and nobody has to get to this Python")
    skip_unless_here(Way(way))
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)  # noqa: PTH101
        assert chosen(AS_NOBODY="1", TMPDIR=folder, **environment) == [way, ""]


def test_a_worker_without_a_sandbox_does_not_start(settings: Settings) -> None:
    environment = {**os.environ, **settings.environment(), "WITHOUT_LANDLOCK": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LIKE_DOCKER, "-m", "worker"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "[sandbox_unavailable]" in done.stderr


def test_processes_that_train_together_meet_in_bubblewrap(tmp_path: Path) -> None:
    skip_unless_here(Way("bubblewrap"))
    folder = job(job_folder(tmp_path))
    command = [sys.executable, "-P", "-m", "prune_engine", "run", str(folder), "--ranks", "2"]
    cell = Way("bubblewrap").cell(Wish(command, folder, ENOUGH_FOR_TORCH, network="loopback"))
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder / "tmp"), "TMPDIR": str(folder / "tmp")}
    environment |= {"USER": "prunery", "OMP_NUM_THREADS": "1"}
    outcome = finish(Child(cell, environment), 250)
    assert outcome.status == 0, outcome.errors
    assert '"type":"done"' in outcome.lines[-1]


def test_landlock_says_that_they_cannot_meet_there(tmp_path: Path) -> None:
    wish = Wish(["true"], job_folder(tmp_path), ORDINARY, network="loopback")
    with pytest.raises(SandboxUnavailableError) as caught:
        Sandbox("landlock", "").cell(wish)
    assert "gpus=1" in caught.value.message


def test_the_kernel_is_asked_which_landlock_it_has() -> None:
    assert 0 <= landlock.version() < 100
