"""Requests to a real TLS server on loopback; only what names mean is made up."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpcore
import pytest
import trustme

from jobs.errors import ConfigurationError, OutgoingFailedError, OutgoingRefusedError
from jobs.outgoing import Outgoing, Rules
from jobs.outgoing.connections import Deadline, GuardedBackend
from jobs.settings import Settings
from tests.receivers import Receiver, listening, trusting


class Names:
    """A resolver that gives each time the next of its answers."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def url(receiver: Receiver, path: str = "/hook?a=b") -> str:
    return f"https://hooks.example.com:{receiver.port}{path}"


def test_a_request_comes_whole_and_by_the_real_name(receiver: Receiver, ca_file: Path) -> None:
    names = Names(["127.0.0.1"])
    answer = Outgoing(trusting(ca_file), names).post(url(receiver), b'{"a":1}', {"X-One": "two"})
    assert answer.status == 204
    (request,) = receiver.requests
    assert request.line == "POST /hook?a=b HTTP/1.1"
    assert request.body == b'{"a":1}'
    assert request.headers["host"] == f"hooks.example.com:{receiver.port}"
    assert request.headers["x-one"] == "two"
    assert request.headers["user-agent"].startswith("prunery")
    assert receiver.server_names == ["hooks.example.com"]
    assert names.asked == ["hooks.example.com"]


def test_a_name_of_this_network_is_refused_unless_the_settings_name_its_network(
    receiver: Receiver, ca_file: Path
) -> None:
    for networks in ((), ("127.0.0.2/32",), ("::1/128",)):
        client = Outgoing(trusting(ca_file, outgoing_networks=networks), Names(["127.0.0.1"]))
        with pytest.raises(OutgoingRefusedError, match="open internet"):
            client.post(url(receiver), b"", {})
    assert receiver.requests == receiver.server_names == []


@pytest.mark.parametrize(
    "spelled", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "127.0.0.1."]
)
def test_other_spellings_of_loopback_are_refused_by_what_they_mean(spelled: str) -> None:
    with pytest.raises((OutgoingRefusedError, OutgoingFailedError)):
        Outgoing(Settings(_env_file=None)).post(f"https://{spelled}:1/", b"", {})


def test_one_closed_address_among_open_ones_is_enough_to_refuse(receiver: Receiver, ca_file: Path) -> None:
    for found in (["1.1.1.1", "127.0.0.2"], ["127.0.0.1", "10.0.0.1"], ["127.0.0.1", "::1"]):
        with pytest.raises(OutgoingRefusedError):
            Outgoing(trusting(ca_file), Names(found)).post(url(receiver), b"", {})
    assert receiver.server_names == []


def test_a_name_is_resolved_once_so_that_a_second_meaning_gains_nothing(
    receiver: Receiver, ca_file: Path
) -> None:
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    assert Outgoing(trusting(ca_file), names).post(url(receiver), b"", {}).status == 204
    assert len(names.asked) == 1
    with pytest.raises(OutgoingRefusedError):  # each request is judged anew
        Outgoing(trusting(ca_file), names).post(url(receiver), b"", {})


def test_the_next_address_is_tried_where_one_takes_no_connection(receiver: Receiver, ca_file: Path) -> None:
    settings = trusting(ca_file, outgoing_networks=("127.0.0.0/8",))
    names = Names(["127.0.0.9", "127.0.0.1"])
    assert Outgoing(settings, names).post(url(receiver), b"", {}).status == 204


def test_an_address_that_swallows_everything_leaves_time_for_the_next(receiver: Receiver) -> None:
    class Swallows(httpcore.SyncBackend):
        def connect_tcp(self, host: str, *args: Any, **options: Any) -> httpcore.NetworkStream:
            if host == "127.0.0.9":
                time.sleep(options["timeout"])
                raise httpcore.ConnectTimeout("timed out")
            return super().connect_tcp(host, *args, **options)

    lifted = Rules(networks=(ip_network("127.0.0.0/8"),))
    backend = GuardedBackend(lifted, Deadline(2.0, 1000), Names(["127.0.0.9", "127.0.0.1"]))
    backend._tcp = Swallows()
    backend.connect_tcp("hooks.example.com", receiver.port).close()


@pytest.mark.parametrize("place", ["https://127.0.0.1/x", "http://169.254.169.254/latest/meta-data/"])
def test_a_redirect_is_an_answer_and_not_followed(receiver: Receiver, ca_file: Path, place: str) -> None:
    receiver.answers(302, headers=f"Location: {place}\r\n")
    answer = Outgoing(trusting(ca_file), Names(["127.0.0.1"])).post(url(receiver), b"", {})
    assert (answer.status, answer.headers["location"]) == (302, place)
    assert len(receiver.requests) == 1


def test_a_certificate_of_another_name_is_refused(authority: trustme.CA, ca_file: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example.com").configure_cert(context)
    with listening(context) as receiver:
        with pytest.raises(OutgoingFailedError, match="certificate"):
            Outgoing(trusting(ca_file), Names(["127.0.0.1"])).post(url(receiver), b"", {})
        assert receiver.requests == []


def test_a_certificate_of_an_unknown_authority_is_refused(receiver: Receiver, ca_file: Path) -> None:
    client = Outgoing(trusting(ca_file, outgoing_ca_file=None), Names(["127.0.0.1"]))
    with pytest.raises(OutgoingFailedError, match="certificate"):
        client.post(url(receiver), b"", {})
    assert receiver.requests == []


def test_a_file_without_certificates_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no\.pem"):
        Outgoing(Settings(_env_file=None, outgoing_ca_file=tmp_path / "no.pem"))


def drips(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b"X-A: b\r\n")
            time.sleep(0.05)


def says_nothing(connection: socket.socket, _: bytes) -> None:
    connection.recv(1)


def babbles_headers(connection: socket.socket, _: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"X-A: " + b"b" * 10_000 + b"\r\n")


def informs_for_ever(connection: socket.socket, _: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)


def speaks_no_http(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"220 mail.example.com ESMTP\r\n")


@pytest.mark.parametrize("behave", [drips, says_nothing, babbles_headers, informs_for_ever, speaks_no_http])
def test_an_answer_that_does_not_come_to_its_end_is_given_up(
    receiver: Receiver, ca_file: Path, behave: Any
) -> None:
    receiver.behave = behave
    client = Outgoing(trusting(ca_file, outgoing_seconds=1.0), Names(["127.0.0.1"]))
    began = time.monotonic()
    with pytest.raises(OutgoingFailedError):
        client.post(url(receiver), b"", {})
    assert time.monotonic() - began < 8


def huge(connection: socket.socket, _: bytes) -> None:
    sent = 0
    with contextlib.suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while sent < 100_000_000:
            sent += connection.send(b"x" * 100_000)
    huge.sent = sent  # type: ignore[attr-defined]


def test_a_huge_body_is_cut_and_the_status_counts(receiver: Receiver, ca_file: Path) -> None:
    receiver.behave = huge
    answer = Outgoing(trusting(ca_file), Names(["127.0.0.1"])).post(url(receiver), b"", {})
    assert answer.status == 200
    until = time.monotonic() + 10
    while not hasattr(huge, "sent") and time.monotonic() < until:
        time.sleep(0.01)
    assert huge.sent < 50_000_000  # type: ignore[attr-defined]


def test_a_tls_handshake_that_never_ends_is_given_up(ca_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Outgoing(trusting(ca_file, outgoing_seconds=0.5), Names(["127.0.0.1"]))
        with pytest.raises(OutgoingFailedError):
            client.post(f"https://hooks.example.com:{silent.getsockname()[1]}/", b"", {})


def test_a_resolver_that_hangs_costs_no_more_than_the_time(ca_file: Path) -> None:
    def hangs(host: str, port: int) -> list[str]:
        time.sleep(5)
        return ["127.0.0.1"]

    client = Outgoing(trusting(ca_file, outgoing_seconds=0.3), hangs)
    began = time.monotonic()
    with pytest.raises(OutgoingFailedError, match="resolved"):
        client.post("https://hooks.example.com/", b"", {})
    assert time.monotonic() - began < 4


def test_a_name_that_nobody_knows_is_said(ca_file: Path) -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(OutgoingFailedError, match="cannot be resolved"):
        Outgoing(trusting(ca_file), unknown).post("https://hooks.example.com/", b"", {})


def test_a_name_without_a_usable_address_is_refused(ca_file: Path) -> None:
    for found in ([], ["no address"], ["127.0.0.1", "no address"]):
        with pytest.raises(OutgoingRefusedError):
            Outgoing(trusting(ca_file), Names(found)).post("https://hooks.example.com/", b"", {})


def test_http_goes_to_a_host_that_the_settings_name(plain_receiver: Receiver, ca_file: Path) -> None:
    settings = trusting(ca_file, outgoing_plain_hosts=("hooks.internal",))
    client = Outgoing(settings, Names(["127.0.0.1"]))
    assert client.post(f"http://hooks.internal:{plain_receiver.port}/", b"x", {}).status == 204
    with pytest.raises(OutgoingRefusedError):  # the address rule holds without TLS too
        Outgoing(settings, Names(["127.0.0.2"])).post(
            f"http://hooks.internal:{plain_receiver.port}/", b"x", {}
        )


def test_a_proxy_of_the_environment_is_not_used(
    receiver: Receiver, plain_receiver: Receiver, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{plain_receiver.port}")
    assert Outgoing(trusting(ca_file), Names(["127.0.0.1"])).post(url(receiver), b"", {}).status == 204
    assert plain_receiver.requests == []


def test_a_proxy_of_the_settings_is_asked_to_connect(
    receiver: Receiver, plain_receiver: Receiver, ca_file: Path
) -> None:
    def refuse(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    plain_receiver.behave = refuse
    proxy = f"http://127.0.0.1:{plain_receiver.port}"
    client = Outgoing(trusting(ca_file, outgoing_proxy=proxy), Names(["10.0.0.1"]))
    with pytest.raises(OutgoingFailedError, match="403"):
        client.post(url(receiver), b"", {})
    assert plain_receiver.requests[0].line == f"CONNECT hooks.example.com:{receiver.port} HTTP/1.1"
    assert receiver.requests == []
    with pytest.raises(OutgoingRefusedError):  # addresses that are written out are judged here all the same
        client.post("https://169.254.169.254/", b"", {})
