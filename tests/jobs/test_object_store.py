"""What is particular to a bucket: uploads whole or not at all, signed addresses, a store that is away."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import psutil
import pytest

from jobs.artifacts import ArtifactStore, output_key
from jobs.errors import ArtifactsUnavailableError, ConfigurationError, TooLargeError
from jobs.filenames import saved_as
from jobs.object_store import is_a_clouds_own, part_size, reason
from jobs.settings import Settings
from tests.object_stores import S3

MIB = 1024 * 1024
CONTENT = os.urandom(12 * MIB)
KEY = output_key("job_1", 1, "model.onnx")


@pytest.fixture
def artifacts(s3_settings: Settings) -> ArtifactStore:
    return ArtifactStore(s3_settings)


@pytest.fixture
def signing(s3_settings: Settings, s3: S3) -> ArtifactStore:
    return ArtifactStore(s3_settings.model_copy(update={"presign_endpoint": s3.endpoint}))


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield CONTENT[: 2 * MIB]
        await asyncio.sleep(0)


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content


def file_of(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "file"
    path.write_bytes(content)
    return path


def eventually(true: Callable[[], object]) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def test_a_cancelled_upload_is_aborted(artifacts: ArtifactStore, s3: S3) -> None:
    async def test() -> None:
        upload = asyncio.create_task(artifacts.put_stream(KEY, endless()))
        while not s3.server.uploads():
            assert not upload.done()
            await asyncio.sleep(0.05)
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload

    asyncio.run(test())
    eventually(lambda: (s3.keys(), s3.server.uploads()) == ([], []))


def test_too_large_an_upload_is_aborted(artifacts: ArtifactStore, s3: S3) -> None:
    with pytest.raises(TooLargeError):
        asyncio.run(artifacts.put_stream(KEY, endless(), limit=20 * MIB))
    eventually(lambda: (s3.keys(), s3.server.uploads()) == ([], []))


def test_memory_stays_flat_while_a_large_file_goes_in_and_out(artifacts: ArtifactStore) -> None:
    async def large() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield CONTENT[:MIB]

    async def test() -> int:
        await artifacts.put_stream("job_1/input/warm", chunks(CONTENT))
        process = psutil.Process()
        before, most = process.memory_info().rss, 0
        await artifacts.put_stream(KEY, large())
        most = process.memory_info().rss
        async for _ in artifacts.stream(KEY):
            most = max(most, process.memory_info().rss)
        return most - before

    assert asyncio.run(test()) < 80 * MIB


def test_a_moment_of_503_passes_unnoticed(artifacts: ArtifactStore, s3: S3, tmp_path: Path) -> None:
    s3.switch.leave()
    threading.Timer(1.0, s3.switch.come_back).start()  # one request is repeated for two seconds at least
    artifacts.put_file(KEY, file_of(tmp_path, CONTENT))
    assert s3.switch.refused > 0
    assert asyncio.run(artifacts.head(KEY)) == len(CONTENT)


def test_a_fetch_waits_for_a_store_that_is_away_and_looks_around_meanwhile(
    artifacts: ArtifactStore, s3: S3, tmp_path: Path
) -> None:
    artifacts.put_file(KEY, file_of(tmp_path, CONTENT))
    looks: list[float] = []
    s3.switch.leave()
    threading.Timer(4.0, s3.switch.come_back).start()  # longer than one request is repeated for
    artifacts.fetch_file(KEY, tmp_path / "got", lambda: looks.append(time.monotonic()))
    assert (tmp_path / "got").read_bytes() == CONTENT
    assert len(looks) > 2


def test_a_wait_for_the_store_can_be_given_up(artifacts: ArtifactStore, s3: S3, tmp_path: Path) -> None:
    def give_up() -> None:
        raise InterruptedError("cancelled")

    with s3.switch.away(), pytest.raises(InterruptedError):
        artifacts.fetch_file(KEY, tmp_path / "got", give_up)


def test_nobody_waits_longer_than_the_settings_say(s3_settings: Settings, s3: S3, tmp_path: Path) -> None:
    hasty = ArtifactStore(s3_settings.model_copy(update={"store_patience_seconds": 0.0}))
    with s3.switch.away(), pytest.raises(ArtifactsUnavailableError, match="503"):
        hasty.fetch_file(KEY, tmp_path / "got")


def test_an_upload_to_a_store_that_is_away_fails_soon(artifacts: ArtifactStore, s3: S3) -> None:
    began = time.monotonic()
    with s3.switch.away(), pytest.raises(ArtifactsUnavailableError):
        asyncio.run(artifacts.put_stream(KEY, chunks(CONTENT)))
    assert time.monotonic() - began < 25
    assert s3.keys() == []


def test_a_download_that_has_begun_waits_for_the_store(
    artifacts: ArtifactStore, s3: S3, tmp_path: Path
) -> None:
    artifacts.put_file(KEY, file_of(tmp_path, CONTENT))

    async def test() -> bytes:
        got = b""
        async for part in artifacts.stream(KEY):
            if not got:
                s3.switch.leave()
                threading.Timer(4.0, s3.switch.come_back).start()
            got += part
        return got

    assert asyncio.run(test()) == CONTENT


def test_ping_notices_a_bucket_that_is_not_there(s3: S3, tmp_path: Path) -> None:
    asyncio.run(ArtifactStore(Settings(_env_file=None, artifacts_url=s3.url)).ping())
    other = ArtifactStore(Settings(_env_file=None, artifacts_url="s3://no-such-bucket/x"))
    with pytest.raises(ArtifactsUnavailableError, match="404"):
        asyncio.run(other.ping())


def test_a_signed_address_gives_the_file_its_name_its_type_and_its_ranges(
    signing: ArtifactStore, tmp_path: Path
) -> None:
    signing.put_file(KEY, file_of(tmp_path, CONTENT), saved_as("räsnet.onnx", "model.onnx"))
    url = asyncio.run(signing.download_url(KEY))
    assert url is not None
    whole = httpx.get(url)
    assert whole.content == CONTENT
    assert whole.headers["content-type"] == "application/octet-stream"
    assert whole.headers["content-disposition"] == (
        "attachment; filename=\"r_snet.pruned.onnx\"; filename*=UTF-8''r%C3%A4snet.pruned.onnx"
    )
    part = httpx.get(url, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, CONTENT[100:200])


def test_a_signed_address_is_good_for_a_while_and_for_one_file(
    s3_settings: Settings, s3: S3, tmp_path: Path
) -> None:
    settings = s3_settings.model_copy(update={"presign_endpoint": s3.endpoint, "presign_seconds": 1})
    signing = ArtifactStore(settings)
    signing.put_file(KEY, file_of(tmp_path, b"one"))
    signing.put_file("job_2/output/model.onnx", file_of(tmp_path, b"two"))
    url = asyncio.run(signing.download_url(KEY))
    assert url is not None
    assert httpx.get(url.replace("job_1", "job_2")).status_code == 403
    eventually(lambda: httpx.get(url).status_code == 403)


def test_nothing_is_signed_where_clients_may_not_reach_the_store(
    artifacts: ArtifactStore, s3_settings: Settings, s3: S3, tmp_path: Path
) -> None:
    off = s3_settings.model_copy(update={"presign": "off", "presign_endpoint": s3.endpoint})
    local = Settings(_env_file=None, data_dir=tmp_path)
    for store in (artifacts, ArtifactStore(off), ArtifactStore(local)):
        assert asyncio.run(store.download_url(KEY)) is None


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("https://models.s3.eu-central-1.amazonaws.com/x?X-Amz-Signature=1", True),
        ("https://s3.eu-central-1.amazonaws.com/models/x", True),
        ("https://storage.googleapis.com/models/x", True),
        ("https://acme.blob.core.windows.net/models/x?sig=1", True),
        ("https://vpce-1.s3.eu-central-1.vpce.amazonaws.com/models/x", False),
        ("http://minio:9000/models/x", False),
        ("https://amazonaws.com.example.org/x", False),
    ],
)
def test_a_clouds_own_addresses_are_known(address: str, own: bool) -> None:
    assert is_a_clouds_own(address) is own


@pytest.mark.parametrize(
    "url", ["s3://key:hidden@bucket/x", "az://container/x?sv=1&sig=hidden", "s4://bucket"]
)
def test_a_url_that_cannot_be_used_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        ArtifactStore(Settings(_env_file=None, artifacts_url=url))
    assert "hidden" not in raised.value.message


def test_no_credentials_are_in_what_the_store_says_of_itself(
    s3: S3, s3_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-and-hidden-one")
    store = ArtifactStore(s3_settings)
    with pytest.raises(ArtifactsUnavailableError) as raised:
        asyncio.run(store.head(KEY))
    said = (s3_settings, s3_settings.environment(), store._store, raised.value, raised.value.__cause__)
    assert "hidden" not in repr(said)


def test_signatures_are_cut_out_of_what_went_wrong() -> None:
    error = RuntimeError("GET https://acme.example/c/x?sv=1&sig=hidden: 403: <?xml hidden\nsource: hidden")
    assert reason(error) == "GET https://acme.example/c/x?...: 403"


def test_parts_grow_before_there_are_too_many() -> None:
    assert part_size(None) == part_size(100 * MIB) == 5 * MIB
    assert part_size(500 * 1024 * MIB) * 10_000 >= 500 * 1024 * MIB
