"""A running API, as the service's own tests have it."""

from __future__ import annotations

from tests.service.conftest import api  # noqa: F401
