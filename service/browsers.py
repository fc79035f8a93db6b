"""What pages of other sites may not do to a service without keys on the machine of whoever looks at them.

A browser reaches addresses that nobody else does. So a page could send a form to `localhost`, or give this
machine's address a name of its own (DNS rebinding) and read the answers as its own. Keys end both, since a
browser never sends one by itself.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from fastapi import Request

from service.errors import HostNotAllowedError, OriginNotAllowedError

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def check_host(request: Request, allowed: tuple[str, ...]) -> None:
    """Refuse a name that somebody else may have given this machine's address.

    Raises:
        HostNotAllowedError.
    """
    name = _host_name(request.headers.get("host", ""))
    if (
        "*" in allowed
        or name in allowed
        or name == "localhost"
        or name.endswith(".localhost")
        or _is_ip(name)
    ):
        return
    raise HostNotAllowedError(
        f"'{name[:100]}' is not a name of this service; PRUNERY_ALLOWED_HOSTS lists those that are"
    )


def check_origin(request: Request) -> None:
    """Refuse what a page of another site sends.

    Raises:
        OriginNotAllowedError.
    """
    if request.method in _SAFE:
        return
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    site = request.headers.get("sec-fetch-site", "same-origin")
    if (origin is None or origin.partition("://")[2] == host) and site in ("same-origin", "none"):
        return
    raise OriginNotAllowedError(
        f"a page of {(origin or 'another site')[:100]} may not send this; requests with an API key may "
        "come from anywhere"
    )


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _host_name(host: str) -> str:
    """`localhost` of `localhost:8000`, `::1` of `[::1]:8000`."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")
