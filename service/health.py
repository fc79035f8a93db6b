"""`python -m service.health`: whether the API of this container answers, as a status for health checks."""

from __future__ import annotations

import ssl
import sys
import urllib.request

from jobs.reading_settings import read_settings
from prune_engine.errors import PruneError

_SECONDS = 4.0


def main() -> int:
    """0: it answers on the settings' port, whatever its certificate says. 1: it does not."""
    try:
        settings = read_settings()
        scheme = "https" if settings.tls_cert else "http"
        context = ssl._create_unverified_context()  # noqa: S323  our own process is asked
        url = f"{scheme}://127.0.0.1:{settings.port}/healthz"
        with urllib.request.urlopen(url, timeout=_SECONDS, context=context):  # noqa: S310  http only
            return 0
    except PruneError as error:
        sys.stderr.write(f"error: {error.message} [{error.code}]\n")
    except OSError as error:
        sys.stderr.write(f"error: {url} does not answer: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
