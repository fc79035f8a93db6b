"""API keys: shown once, kept hashed, with an end; and what is counted for one: jobs, bytes, requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.admission import Asked, AsyncKeys
from jobs.conditions import Claim, Conditions
from jobs.connection import connect
from jobs.errors import (
    ActiveJobsExceededError,
    ConfigurationError,
    IdempotencyKeyInUseError,
    KeyNotFoundError,
)
from jobs.keys import KeyStore, Limits, Scope, new_token, parse_token
from jobs.layout import Layout
from jobs.record import Artifact, JobError, JobResult, Status, now
from jobs.settings import Settings
from jobs.store import JobStore
from tests.stores import a_job


@pytest.fixture
def keys(settings: Settings) -> Iterator[KeyStore]:
    store = KeyStore(settings)
    yield store
    store.close()


def everything_in_the_store(settings: Settings) -> str:
    redis = connect(settings.require_redis_url())
    found = []
    for name in redis.scan_iter(f"{settings.redis_prefix}*"):
        found.append(str(redis.dump(name)) if redis.type(name) != "hash" else str(redis.hgetall(name)))
    return "\n".join(found)


def test_a_key_is_known_again_and_only_its_hash_is_kept(settings: Settings, keys: KeyStore) -> None:
    assert not keys.any()
    key, token = keys.create("ci", [Scope.JOBS_WRITE], limits=Limits(active_jobs=3))
    assert keys.any()
    assert parse_token(str(token)) == token
    assert len(token.secret) >= 43
    [(stored, used)] = keys.all()
    assert (stored, used) == (key, None)
    assert stored.fits(token.secret)
    assert not stored.fits(token.secret[:-1] + "x")
    assert token.secret not in everything_in_the_store(settings)


@pytest.mark.parametrize(
    "text", ["", "prn_", "prn_abcd_short", f"sk_abcd_{'x' * 43}", f"prn_AB_{'x' * 43}", "é"]
)
def test_what_cannot_be_a_key_is_none(text: str) -> None:
    assert parse_token(text) is None


def test_scopes_include_what_they_should(keys: KeyStore) -> None:
    allowed = {
        scope: {other for other in Scope if keys.create("x", [scope])[0].allows(other)} for scope in Scope
    }
    assert allowed == {
        Scope.JOBS_READ: {Scope.JOBS_READ},
        Scope.JOBS_WRITE: {Scope.JOBS_READ, Scope.JOBS_WRITE},
        Scope.METRICS: {Scope.METRICS},
        Scope.ADMIN: set(Scope),
    }


def test_a_key_ends_by_time_or_by_hand_and_stays_known(keys: KeyStore) -> None:
    over, _ = keys.create("old", [Scope.JOBS_READ], expires_at=now() - timedelta(seconds=1))
    key, token = keys.create("ci", [Scope.JOBS_READ], expires_at=now() + timedelta(days=1))
    assert (over.state(), key.state()) == ("expired", "active")
    ended = keys.revoke(key.id)
    assert ended.state() == "revoked"
    assert keys.revoke(key.id) == ended
    keys.create("again", [Scope.ADMIN], token=token)
    assert [one.state() for one, _ in keys.all()] == ["expired", "revoked"]
    with pytest.raises(KeyNotFoundError, match="keys list"):
        keys.revoke("nobody")


def test_the_first_key_may_come_from_a_file(keys: KeyStore, tmp_path: Path) -> None:
    token = new_token()
    (tmp_path / "key").write_text(f"{token}\n")
    keys.adopt(tmp_path / "key")
    keys.adopt(tmp_path / "key")
    [(key, _)] = keys.all()
    assert key.fits(token.secret)
    assert key.scopes == (Scope.ADMIN,)
    (tmp_path / "key").write_text("hunter2\n")
    with pytest.raises(ConfigurationError, match="openssl rand"):
        keys.adopt(tmp_path / "key")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        keys.adopt(tmp_path / "none")


def test_an_owner_s_jobs_are_listed_without_those_of_others(store: JobStore) -> None:
    for number in range(6):
        store.create(a_job(id=f"job_{number}", owner=("ann", "bob", None)[number % 3]))
    store.start("job_0")
    assert [job.id for job in store.page(10, owner="ann")[0]] == ["job_3", "job_0"]
    assert [job.id for job in store.page(1, owner="ann")[0]] == ["job_3"]
    assert store.page(1, owner="ann")[1] is True
    assert [job.id for job in store.page(10, "job_3", owner="ann")[0]] == ["job_0"]
    assert [job.id for job in store.page(10, status=Status.RUNNING, owner="ann")[0]] == ["job_0"]
    assert store.page(10, status=Status.RUNNING, owner="bob") == ([], False)
    assert len(store.page(10)[0]) == 6
    store.fail("job_0", JobError(code="x", message="y"))
    assert store.page(10, status=Status.RUNNING, owner="ann") == ([], False)
    assert store.delete("job_0")
    assert [job.id for job in store.page(10, owner="ann")[0]] == ["job_3"]


def test_an_owner_s_jobs_that_have_not_ended_are_counted_as_they_are_made(store: JobStore) -> None:
    two = Conditions(active_jobs=2)
    for number in range(2):
        store.create(a_job(id=f"job_{number}", owner="ann"), two)
    with pytest.raises(ActiveJobsExceededError, match="2 jobs of this key"):
        store.create(a_job(id="job_2", owner="ann"), two)
    store.create(a_job(id="job_3", owner="bob"), two)
    store.start("job_0")
    store.request_cancel("job_1")
    store.create(a_job(id="job_2", owner="ann"), two)
    with pytest.raises(ActiveJobsExceededError):
        store.create(a_job(id="job_4", owner="ann"), two)
    assert [job.id for job in store.page(9, owner="ann")[0]] == ["job_2", "job_1", "job_0"]


def test_the_bytes_of_an_owner_s_files_are_counted_and_forgotten(settings: Settings, store: JobStore) -> None:
    redis, layout = connect(settings.require_redis_url()), Layout(settings.redis_prefix, 10)
    for number in range(2):
        store.create(a_job(id=f"job_{number}", owner="ann"))
    assert redis.hgetall(layout.stored) == {"ann": "6"}
    store.start("job_0")
    left = [Artifact(name="model.onnx", bytes=100, sha256="00")]
    store.succeed("job_0", JobResult(density=0.1, metrics={}, artifacts=left))
    assert redis.hgetall(layout.stored) == {"ann": "106"}
    store.delete("job_0")
    store.request_cancel("job_1")
    store.delete("job_1")
    assert redis.hgetall(layout.stored) == {}
    assert list(redis.scan_iter(f"{settings.redis_prefix}key:*")) == []


def test_a_job_is_made_only_while_its_claim_is_held(settings: Settings, store: JobStore) -> None:
    redis, layout = connect(settings.require_redis_url()), Layout(settings.redis_prefix, 10)
    claim = Claim("ann:k", "t1", "f")
    with pytest.raises(IdempotencyKeyInUseError):
        store.create(a_job(id="job_0"), Conditions(claim=claim))
    redis.set(layout.claim("ann:k"), "running:t2")
    with pytest.raises(IdempotencyKeyInUseError):
        store.create(a_job(id="job_0"), Conditions(claim=claim))
    redis.set(layout.claim("ann:k"), "running:t1", px=60_000)
    store.create(a_job(id="job_0"), Conditions(claim=claim))
    assert redis.get(layout.claim("ann:k")) == '{"fingerprint": "f", "job_id": "job_0"}'
    assert 86_000 < redis.ttl(layout.claim("ann:k")) <= 86_400
    assert store.page(9)[0][0].id == "job_0"


def test_requests_are_let_in_up_to_the_limit_of_a_minute(settings: Settings, keys: KeyStore) -> None:
    key, _ = keys.create("ci", [Scope.JOBS_READ])

    async def test() -> None:
        processes = [AsyncKeys(settings) for _ in range(3)]
        try:
            asked = [processes[number % 3].admit(Asked(key.id, 20)) for number in range(50)]
            answers = await asyncio.gather(*asked)
            # At the turn of a minute a few more have room.
            assert 20 <= sum(answer.let_in for answer in answers) <= 22
            refused = next(answer for answer in answers if not answer.let_in)
            assert 0 < refused.wait <= 120
            assert refused.record == key.model_dump_json()
            free = await asyncio.gather(*(processes[0].admit(Asked(key.id, 0)) for _ in range(50)))
            assert all(answer.let_in and answer.left is None for answer in free)
            unknown = await processes[0].admit(Asked("nobody", 20))
            assert (unknown.record, unknown.let_in) == (None, False)
        finally:
            for one in processes:
                await one.close()

    asyncio.run(test())
    [(_, used)] = keys.all()
    assert used is not None
    assert abs((now() - used).total_seconds()) < 120


def test_the_store_says_which_jobs_are_a_key_s(settings: Settings, keys: KeyStore, store: JobStore) -> None:
    key, _ = keys.create("ci", [Scope.JOBS_READ])
    store.create(a_job(id="job_mine", owner=key.id))
    store.create(a_job(id="job_other", owner="other"))
    store.create(a_job(id="job_nobody"))

    async def test() -> None:
        asking = AsyncKeys(settings)
        ids = ["job_mine", None, "job_other", "job_nobody", "job_none"]
        answers = await asyncio.gather(*(asking.admit(Asked(key.id, 600, job_id)) for job_id in ids))
        assert [answer.owns for answer in answers] == [True, False, False, False, False]
        await asking.close()

    asyncio.run(test())
