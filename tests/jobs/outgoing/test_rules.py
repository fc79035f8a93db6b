from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import ConfigurationError, OutgoingRefusedError
from jobs.outgoing import Rules
from jobs.settings import Settings


def rules(**fields: Any) -> Rules:
    return Rules.of(Settings(_env_file=None, **fields))


def test_a_url_is_taken_apart() -> None:
    target = rules().target("https://Hooks.Example.com/a%20b?c=d#e")
    assert (target.scheme, target.host, target.port) == ("https", "hooks.example.com", 443)
    assert (target.path, target.header) == ("/a%20b?c=d", "hooks.example.com")
    assert rules().target("https://example.com:8443").port == 8443


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", ""),
        *("example.com", "//example.com", "https://", "https:///x", "https://user:pw@example.com/"),
        *(
            "https://user@example.com/",
            "javascript:alert(1)",
            "https://exa mple.com/",
            "https://[::1",
            "\x00",
        ),
        *("https://example.com:99999/", "https://example.com/\n\rHost: x", "https://" + "a" * 3000 + ".com/"),
    ],
)
def test_what_is_no_https_url_is_refused(url: str) -> None:
    with pytest.raises(OutgoingRefusedError):
        rules().target(url)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "[::1]",
            "169.254.169.254",
            "[::ffff:127.0.0.1]",
            "[fd00:ec2::254]",
            "10.0.0.1",
            "0.0.0.0",
        ),
        *("[::]", "[fe80::1]", "[64:ff9b::7f00:1]", "100.100.100.200", "224.0.0.1", "255.255.255.255"),
    ],
)
def test_an_address_that_is_written_out_is_judged_at_once(host: str) -> None:
    with pytest.raises(OutgoingRefusedError, match="open internet"):
        rules().target(f"https://{host}/")


PIECES = (
    r"https http :// : / // @ # ? [ ] \ % %00 %2e . .. xn-- example.com localhost 127.0.0.1 ::1 0x7f 443 9999"
)
pieces = st.sampled_from([*PIECES.split(), " ", "\n", "\u3002", "\u2100"])


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(pieces, max_size=12).map("".join)))
def test_any_text_is_a_target_or_refused(text: str) -> None:
    for candidate in (text, f"https://{text}"):
        try:
            target = rules().target(candidate)
        except OutgoingRefusedError:
            continue
        assert target.scheme == "https"
        assert re.fullmatch(r"[a-z0-9_.-]+|\[?[0-9a-f:.]+\]?", target.host)
        assert 0 < target.port < 65_536
        assert target.path.startswith("/")
        assert not re.search(r"[\x00-\x20\x7f-\U0010ffff]", target.path + target.header)


def test_http_is_for_the_hosts_that_the_settings_name() -> None:
    some = rules(outgoing_plain_hosts=("hooks.internal",))
    assert some.target("http://hooks.internal:8080/x").port == 8080
    with pytest.raises(OutgoingRefusedError, match="https"):
        some.target("http://other.internal/")


def test_a_list_of_hosts_leaves_out_all_others() -> None:
    some = rules(outgoing_hosts=("hooks.example.com", "*.example.org"))
    for host in ("hooks.example.com", "HOOKS.example.com.", "a.example.org", "a.b.example.org"):
        assert some.target(f"https://{host}/")
    for host in (
        "example.com",
        "evil-hooks.example.com",
        "hooks.example.com.evil.net",
        "example.org",
        "1.1.1.1",
    ):
        with pytest.raises(OutgoingRefusedError, match="PRUNERY_OUTGOING_HOSTS"):
            some.target(f"https://{host}/")


def test_an_empty_list_lets_nothing_out() -> None:
    with pytest.raises(OutgoingRefusedError):
        rules(outgoing_hosts=()).target("https://example.com/")


def test_a_network_that_is_none_is_said_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"10\.20\.0\.0/16"):
        rules(outgoing_networks=("10.0.0.1/8",))
