"""No open door on a network: what is refused before the API listens, and HTTPS."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from jobs.errors import ConfigurationError
from jobs.keys import KeyStore, Scope, new_token
from jobs.settings import Settings
from service.binding import is_loopback, prepare
from tests.service.certificates import certificate
from tests.service.test_process import process


@pytest.fixture
def keys(settings: Settings) -> Iterator[KeyStore]:
    store = KeyStore(settings)
    yield store
    store.close()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.0.2.1", False),
        ("no-such-host.invalid", False),
    ],
)
def test_only_loopback_addresses_are_this_machine_s_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_network_without_a_key_is_refused_and_the_way_out_is_said(
    settings: Settings, keys: KeyStore
) -> None:
    open_wide = settings.model_copy(update={"host": "0.0.0.0"})
    with pytest.raises(ConfigurationError, match="prunery keys create --name me --scope jobs:write"):
        prepare(open_wide)
    with pytest.raises(ConfigurationError):
        prepare(settings, host="0.0.0.0")
    with pytest.raises(ConfigurationError):
        prepare(open_wide.model_copy(update={"auth": "required"}))
    prepare(open_wide.model_copy(update={"auth": "off"}))
    prepare(settings)
    keys.create("me", [Scope.JOBS_WRITE])
    prepare(open_wide)


def test_the_first_key_may_come_from_a_file(settings: Settings, keys: KeyStore, tmp_path: Path) -> None:
    token = new_token()
    (tmp_path / "key").write_text(str(token))
    prepare(settings.model_copy(update={"host": "0.0.0.0", "bootstrap_key_file": tmp_path / "key"}))
    [(key, _)] = keys.all()
    assert key.fits(token.secret)


def test_a_store_that_is_away_opens_nothing_and_stops_nothing(settings: Settings) -> None:
    away = settings.model_copy(update={"host": "0.0.0.0", "redis_url": "redis://127.0.0.1:1/0"})
    prepare(away)


@pytest.mark.parametrize(
    ("command", "where"),
    [
        (["-m", "service.server"], {"PRUNERY_HOST": "0.0.0.0"}),
        (["-m", "uvicorn", "service.app:app", "--host", "0.0.0.0", "--port", "0"], {}),
    ],
    ids=["service.server", "uvicorn"],
)
def test_the_process_ends_and_says_why(settings: Settings, command: list[str], where: dict[str, str]) -> None:
    environment = os.environ | {
        "PRUNERY_PORT": "0",
        "PRUNERY_REDIS_PREFIX": settings.redis_prefix,
        "REDIS_URL": str(settings.redis_url),
    }
    done = subprocess.run(
        [sys.executable, *command],
        env=environment | where,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "prunery keys create" in done.stderr


def test_https_is_served_with_a_certificate(settings: Settings, keys: KeyStore, tmp_path: Path) -> None:
    cert, key, authority = certificate(tmp_path)
    token = keys.create("me", [Scope.JOBS_READ])[1]
    with process(settings.model_copy(update={"tls_cert": cert, "tls_key": key})) as (_, url):
        assert url.startswith("https://")
        context = ssl.create_default_context(cafile=str(authority))
        with httpx.Client(base_url=url, verify=context) as client:
            assert client.get("/jobs").status_code == 401
            answer = client.get("/jobs", headers={"Authorization": f"Bearer {token}"})
            assert answer.json()["data"] == []
            stream = answer.extensions["network_stream"]
            assert stream.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")
        with pytest.raises(httpx.ConnectError, match="certificate"):
            httpx.get(f"{url}/healthz")
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"{url.replace('https', 'http')}/healthz")


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="PRUNERY_TLS_KEY"):
        Settings(_env_file=None, tls_cert=tmp_path / "cert.pem")
