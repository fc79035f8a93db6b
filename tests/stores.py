"""Fixtures with a real Valkey: one server for the session, a key prefix and a data folder for each test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.record import DatasetRef, Job, ModelFile, new_job_id, now
from jobs.settings import Settings
from jobs.store import JobStore
from prune_engine.spec import PruneSpec
from prunery.valkey import start_server


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with an append-only file, for the whole session."""
    server = start_server(tmp_path_factory.mktemp("valkey"))
    server.wait(10.0)
    yield server.url
    server.stop()


@pytest.fixture
def redis_prefix() -> str:
    """What this test's keys start with: tests do not see each other."""
    return f"test-{secrets.token_hex(6)}:"


@pytest.fixture
def settings(valkey_url: str, redis_prefix: str, tmp_path: Path) -> Settings:
    """Settings with this test's own prefix and data folder, and nothing from `.env`."""
    return Settings(
        _env_file=None,
        redis_url=valkey_url,
        redis_prefix=redis_prefix,
        data_dir=tmp_path / "data",
        heartbeat_seconds=0.5,
        lease_seconds=2.0,
        lease_renew_seconds=0.5,
    )


@pytest.fixture
def store(settings: Settings) -> Iterator[JobStore]:
    """The synchronous store."""
    with_server = JobStore(settings)
    yield with_server
    with_server.close()


def a_job(**fields: object) -> Job:
    """A queued job that prunes an ONNX model on a named data set."""
    defaults: dict[str, object] = {
        "id": new_job_id(),
        "spec": PruneSpec(density=0.1),
        "model": ModelFile(filename="net.onnx", format="onnx", bytes=3, sha256="00" * 32),
        "dataset": DatasetRef(source="named", name="digits"),
        "created_at": now(),
    }
    return Job.model_validate(defaults | fields)
