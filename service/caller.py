"""Who asks: every route is behind this one dependency, so that a new one cannot forget it.

The rule needs no entry: what reads asks for `jobs:read`, whatever else for `jobs:write`, and a path with a
`{job_id}` answers only to who sees that job. `_EXCEPTIONS` are the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Depends, Request

from jobs.keys import ApiKey, Scope

if TYPE_CHECKING:
    from service.rooms import Rooms

_READING: Final = frozenset({"GET", "HEAD"})
# Path template -> the scope that it needs; None: open to everybody.
_EXCEPTIONS: Final[Mapping[str, Scope | None]] = {
    "/": None,
    "/docs": None,
    "/healthz": None,
    "/readyz": None,
    "/metrics": Scope.METRICS,
}


@dataclass(frozen=True)
class Caller:
    """Who asks. `key`: None where the service is open, or where a stranger asks for what everybody may see.

    `known`: whether it is more than a stranger.
    """

    key: ApiKey | None
    known: bool

    @property
    def owner(self) -> str | None:
        """Under which owner its jobs are made."""
        return self.key.id if self.key else None

    @property
    def sees(self) -> str | None:
        """Whose jobs it sees; None: everybody's."""
        return None if self.key is None or self.key.allows(Scope.ADMIN) else self.key.id


ANYBODY: Final = Caller(None, known=True)
STRANGER: Final = Caller(None, known=False)


def needed(path: str, method: str) -> Scope | None:
    """The scope that a route needs; None: it is open to everybody."""
    if path in _EXCEPTIONS:
        return _EXCEPTIONS[path]
    return Scope.JOBS_READ if method in _READING else Scope.JOBS_WRITE


async def caller_of(request: Request) -> Caller:
    """Let the request in, or raise why not.

    Raises:
        AccessError: no key, none that is good, or one that does not allow this.
        RequestsExceededError: too many requests of this key.
        JobNotFoundError: the path's job is not there, or not for this caller: the same to it.
    """
    rooms: Rooms = request.app.state.rooms
    scope = needed(request.scope["route"].path, request.method)
    return await rooms.gate.admit(request, scope, request.path_params.get("job_id"))


InCaller = Annotated[Caller, Depends(caller_of)]
