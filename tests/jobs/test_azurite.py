"""Azure Blob Storage, where its emulator is on PATH: `npm install --global azurite`."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

import jobs.artifacts
from jobs.artifacts import ArtifactStore
from jobs.errors import ArtifactNotFoundError
from jobs.filenames import saved_as
from jobs.settings import Settings

AZURITE = shutil.which("azurite-blob")
# The account that every copy of the emulator has.
ACCOUNT = "devstoreaccount1"
SECRET = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
PORT = 10_000
CONTENT = os.urandom(12 * 1024 * 1024)
pytestmark = pytest.mark.skipif(AZURITE is None, reason="azurite is not installed")


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArtifactStore]:
    assert AZURITE is not None
    command = [AZURITE, "--silent", "--location", str(tmp_path), "--skipApiVersionCheck"]
    process = subprocess.Popen(command, cwd=tmp_path)
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    monkeypatch.setattr(jobs.artifacts, "is_a_clouds_own", lambda url: True)
    try:
        until = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", PORT)) != 0:
            assert time.monotonic() < until, "azurite did not start"
            time.sleep(0.1)
        make_container("prunery")
        yield ArtifactStore(Settings(_env_file=None, artifacts_url="az://prunery/tests"))
    finally:
        process.kill()
        process.wait()


def make_container(name: str) -> None:
    date, version = formatdate(usegmt=True), "2021-08-06"
    signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n"
    signed += f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    digest = hmac.new(base64.b64decode(SECRET), signed.encode(), hashlib.sha256).digest()
    answer = httpx.put(
        f"http://127.0.0.1:{PORT}/{ACCOUNT}/{name}?restype=container",
        headers={
            "x-ms-date": date,
            "x-ms-version": version,
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
            "Content-Length": "0",
        },
    )
    assert answer.status_code == 201, answer.text


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 1_000_000):
        yield content[start : start + 1_000_000]


def test_files_go_in_and_out_and_clients_are_sent_there(artifacts: ArtifactStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT
        raise ConnectionResetError("gone")

    async def test() -> None:
        await artifacts.ping()
        stored = await artifacts.put_stream("job_1/input/model", chunks(CONTENT))
        assert stored.bytes == await artifacts.head("job_1/input/model") == len(CONTENT)
        got = b"".join([part async for part in artifacts.stream("job_1/input/model", 5, 9_000_000)])
        assert got == CONTENT[5:9_000_000]
        with pytest.raises(ConnectionResetError):
            await artifacts.put_stream("job_1/input/data", broken())
        with pytest.raises(ArtifactNotFoundError):
            await artifacts.head("job_1/input/data")
        local = tmp_path / "local"
        local.write_bytes(CONTENT)
        key = "job_1/output/model.onnx"
        await asyncio.to_thread(artifacts.put_file, key, local, saved_as("net.onnx", "model.onnx"))
        url = await artifacts.download_url(key)
        assert url is not None
        fetched = httpx.get(url)
        assert fetched.content == CONTENT
        assert fetched.headers["content-disposition"] == 'attachment; filename="net.pruned.onnx"'
        assert await artifacts.delete_prefix("job_1") == 2

    asyncio.run(test())
