"""`prunery keys`, as its user runs it: against REDIS_URL, a running `prunery up`, and a folder that rests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.keys import parse_token
from jobs.settings import Settings
from prunery.data_folder import only_one
from prunery.valkey import start_server


def prunery(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PRUNERY") and k != "REDIS_URL"}
    return subprocess.run(
        [sys.executable, "-m", "prunery", "keys", *words],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def where(settings: Settings) -> dict[str, str]:
    return {"REDIS_URL": str(settings.redis_url), "PRUNERY_REDIS_PREFIX": settings.redis_prefix}


def test_a_key_is_shown_once_listed_and_revoked(where: dict[str, str]) -> None:
    assert "no key was made yet" in prunery("list", **where).stderr
    made = prunery("create", "--name", "ci", "--scope", "jobs:write", "--expires", "90d", **where)
    token = parse_token(made.stdout.strip())
    assert token is not None
    assert "not shown again" in made.stderr
    assert token.secret not in made.stderr
    options = ["--scope", "metrics", "--scope", "jobs:read", "--active-jobs", "0"]
    prunery("create", "--name", "prometheus", *options, **where)
    ci, prometheus = json.loads(prunery("list", "--json", **where).stdout)
    assert (ci["id"], ci["name"], ci["state"], ci["scopes"]) == (token.id, "ci", "active", ["jobs:write"])
    assert ci["expires_at"] > ci["created_at"]
    assert (ci["last_used_at"], ci["limits"]["active_jobs"]) == (None, None)
    assert (prometheus["scopes"], prometheus["limits"]["active_jobs"]) == (["metrics", "jobs:read"], 0)
    assert prunery("revoke", token.id, **where).returncode == 0
    table = prunery("list", **where).stdout
    assert token.id in table
    assert "revoked" in table
    assert token.secret not in table
    missing = prunery("revoke", "nobody", **where)
    assert (missing.returncode, "[key_not_found]" in missing.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--scope", "jobs:all"], "is no scope"),
        (["--scope", "jobs:read", "--expires", "soon"], "is no time"),
        (["--scope", "jobs:read", "--expires", "2020-01-01"], "is over"),
    ],
)
def test_nonsense_is_refused(where: dict[str, str], options: list[str], word: str) -> None:
    refused = prunery("create", "--name", "x", *options, **where)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert word in " ".join(refused.stderr.split())


def test_a_store_that_is_away_is_an_error_that_says_so(tmp_path: Path) -> None:
    away = prunery("list", REDIS_URL=f"unix://{tmp_path}/none.sock")
    assert (away.returncode, "[store_unavailable]" in away.stderr) == (1, True)


def test_the_private_store_is_found_running_and_at_rest(tmp_path: Path) -> None:
    folder = ["--data-dir", str(tmp_path / "data")]
    assert prunery("create", "--name", "a", "--scope", "admin", *folder).returncode == 0
    assert (tmp_path / "data" / "valkey" / "appendonlydir").exists()
    with only_one(tmp_path / "data"):  # as `prunery up` does
        server = start_server(tmp_path / "data" / "valkey")
        server.wait(30)
        assert prunery("create", "--name", "b", "--scope", "admin", *folder).returncode == 0
        server.stop()
    listed = json.loads(prunery("list", "--json", *folder).stdout)
    assert [key["name"] for key in listed] == ["a", "b"]
