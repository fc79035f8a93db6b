from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobs.artifacts import ArtifactStore, StoredFile, input_key, output_key
from jobs.errors import ArtifactNotFoundError, ArtifactsUnavailableError, TooLargeError
from jobs.settings import Settings

CONTENT = os.urandom(12_345_678)


@pytest.fixture(params=["path", "file://", "memory://", "s3://"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """The store in a folder, by path and by URL, one in memory, and one in a bucket."""
    if request.param == "s3://":
        url = request.getfixturevalue("s3").url
    else:
        urls = {"path": None, "file://": f"file://{tmp_path}/by%20url", "memory://": "memory://"}
        url = urls[request.param]
    return ArtifactStore(Settings(_env_file=None, data_dir=tmp_path, artifacts_url=url))


@pytest.fixture
def local(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(Settings(_env_file=None, data_dir=tmp_path))


async def chunks(content: bytes, size: int = 1_000_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def collect(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in stream])


def test_what_was_streamed_in_comes_out_with_its_hash(artifacts: ArtifactStore) -> None:
    async def test() -> None:
        key = input_key("job_1", "model")
        stored = await artifacts.put_stream(key, chunks(CONTENT))
        assert stored == StoredFile(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
        assert await artifacts.head(key) == len(CONTENT)
        assert await collect(artifacts.stream(key)) == CONTENT

    asyncio.run(test())


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (5, 5), (5_000_000, 7_000_000), (12_345_677, None), (10, 99_999_999)]
)
def test_a_range_is_what_a_slice_would_be(artifacts: ArtifactStore, start: int, end: int | None) -> None:
    async def test() -> None:
        await artifacts.put_stream("job_1/output/model.onnx", chunks(CONTENT))
        assert await collect(artifacts.stream("job_1/output/model.onnx", start, end)) == CONTENT[start:end]

    asyncio.run(test())


def test_files_go_in_and_out_whole(artifacts: ArtifactStore, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(CONTENT)
    stored = artifacts.put_file(output_key("job_1", 1, "figures/curve.svg"), source)
    assert stored == StoredFile(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    artifacts.fetch_file("job_1/output/1/figures/curve.svg", target)
    assert target.read_bytes() == CONTENT


def test_a_fetched_file_is_a_copy(local: ArtifactStore, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"original")
    local.put_file("job_1/input/model", source)
    local.fetch_file("job_1/input/model", target)
    target.write_bytes(b"tampered")
    assert asyncio.run(collect(local.stream("job_1/input/model"))) == b"original"


def test_a_long_fetch_can_be_given_up_in_between(local: ArtifactStore, tmp_path: Path) -> None:
    asyncio.run(local.put_stream("job_1/input/data", chunks(CONTENT)))

    def give_up() -> None:
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError):
        local.fetch_file("job_1/input/data", tmp_path / "target", give_up)
    assert (tmp_path / "target").stat().st_size < len(CONTENT)


def test_an_empty_file_is_a_file(artifacts: ArtifactStore) -> None:
    async def test() -> None:
        stored = await artifacts.put_stream("job_1/input/data", chunks(b""))
        assert stored.bytes == await artifacts.head("job_1/input/data") == 0
        assert await collect(artifacts.stream("job_1/input/data")) == b""

    asyncio.run(test())


def test_what_is_not_there_is_not_found(artifacts: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFoundError):
        asyncio.run(artifacts.head("job_1/input/model"))
    with pytest.raises(ArtifactNotFoundError):
        asyncio.run(collect(artifacts.stream("job_1/input/model")))
    with pytest.raises(ArtifactNotFoundError):
        artifacts.fetch_file("job_1/input/model", tmp_path / "target")


def test_a_prefix_is_deleted_and_its_neighbours_are_not(artifacts: ArtifactStore) -> None:
    async def test() -> None:
        for key in ("job_1/input/model", "job_1/output/a/b.svg", "job_10/input/model"):
            await artifacts.put_stream(key, chunks(b"x"))
        assert await artifacts.delete_prefix("job_1") == 2
        assert await artifacts.delete_prefix("job_1") == 0
        assert await artifacts.head("job_10/input/model") == 1

    asyncio.run(test())


@pytest.mark.parametrize("limit", [0, 1, 6_000_000, len(CONTENT) - 1])
def test_too_large_a_file_is_refused_and_leaves_nothing(
    local: ArtifactStore, tmp_path: Path, limit: int
) -> None:
    with pytest.raises(TooLargeError) as raised:
        asyncio.run(local.put_stream("job_1/input/model", chunks(CONTENT), limit=limit, param="model"))
    assert (raised.value.code, raised.value.param) == ("file_too_large", "model")
    assert list((tmp_path / "artifacts").rglob("*")) == []


def test_a_file_of_exactly_the_limit_is_taken(local: ArtifactStore) -> None:
    stored = asyncio.run(local.put_stream("job_1/input/model", chunks(CONTENT), limit=len(CONTENT)))
    assert stored.bytes == len(CONTENT)


def test_a_client_that_hangs_up_leaves_nothing(local: ArtifactStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        asyncio.run(local.put_stream("job_1/input/model", broken()))
    assert list((tmp_path / "artifacts").rglob("*")) == []


def test_a_cancelled_upload_leaves_nothing_but_its_neighbour(local: ArtifactStore, tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield CONTENT
            await asyncio.sleep(0.01)

    async def test() -> None:
        await local.put_stream("job_1/input/data", chunks(b"x"))
        upload = asyncio.create_task(local.put_stream("job_1/input/model", endless()))
        await asyncio.sleep(0.3)
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        await asyncio.sleep(0.1)

    asyncio.run(test())
    files = [p for p in (tmp_path / "artifacts").rglob("*") if p.is_file()]
    assert files == [tmp_path / "artifacts" / "job_1" / "input" / "data"]


def test_a_store_that_cannot_be_written_says_so(local: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "artifacts" / "job_1").write_text("a file where a folder should be")
    with pytest.raises(ArtifactsUnavailableError, match="ARTIFACTS_URL"):
        asyncio.run(local.put_stream("job_1/input/model", chunks(CONTENT)))
