"""Sending a stored file: ranges, conditions, a name to save it under.

What a browser shows is streamed from the artifact store, with headers that keep it from running as ours. For
what is saved, a client may be sent on to an object store, by an address that is good for a while.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from jobs.artifacts import ArtifactStore, key_of
from jobs.filenames import disposition, is_saved, media_type
from jobs.record import Artifact
from service.errors import RangeNotSatisfiableError

_RANGE: Final = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
# What a job leaves was made from what a stranger sent: a browser must not run it as ours.
_SAFETY: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "font-src data:; script-src 'unsafe-inline'; sandbox allow-scripts",
}


@dataclass(frozen=True)
class _Span:
    """Bytes `start` to before `end`."""

    start: int
    end: int


async def send_file(
    request: Request, store: ArtifactStore, job_id: str, file: Artifact, *, filename: str | None = None
) -> Response:
    """The answer with the file, a range of it, "not modified", or where to fetch it.

    Args:
        filename: the name to save it under; None: show it where the browser can.

    Raises:
        RangeNotSatisfiableError: the range lies outside the file.
        ArtifactNotFoundError: the store has lost it.
    """
    etag = f'"{file.sha256}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache", **_SAFETY}
    if _names(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    key = key_of(job_id, file)
    # What is lost is noticed before a status has been sent.
    await store.head(key)
    if request.method == "GET" and is_saved(file.name) and (url := await store.download_url(key)):
        # The range, if any, is asked for again there.
        return Response(status_code=307, headers={"Location": url, "Cache-Control": "private, no-store"})
    headers["Content-Disposition"] = disposition(
        filename or file.name.rpartition("/")[2], filename is not None
    )
    span = _span(request, file, etag)
    whole = span is None
    span = span or _Span(0, file.bytes)
    headers["Content-Length"] = str(span.end - span.start)
    if not whole:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{file.bytes}"
    status, kind = 200 if whole else 206, media_type(file.name)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=kind)
    return StreamingResponse(
        store.stream(key, span.start, span.end), status_code=status, headers=headers, media_type=kind
    )


def _names(condition: str, etag: str) -> bool:
    """Whether `If-None-Match` names the file (weak comparison, RFC 9110 section 13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for tag in condition.split(",")]
    return etag in tags or tags == ["*"]


def _span(request: Request, file: Artifact, etag: str) -> _Span | None:
    """The one range that is asked for; None: the whole file, as for anything that is not understood."""
    found = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if not found or found[1] == found[2] == "" or request.headers.get("if-range", etag) != etag:
        return None
    size = file.bytes
    if found[1] == "":
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    if start >= size or start >= end:
        raise RangeNotSatisfiableError(
            f"{file.name} has {size:,} bytes; the range {found[0][6:]} lies outside them",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return _Span(start, end)
