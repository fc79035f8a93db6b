"""What the headers of a request and of its parts say: boundary, field name, file name."""

from __future__ import annotations

import re

from python_multipart.multipart import parse_options_header

from service.errors import MultipartInvalidError, MultipartRequiredError

MAX_NAME = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def boundary_of(content_type: str | None) -> bytes:
    """The boundary of a multipart/form-data body.

    Raises:
        MultipartRequiredError: the body is something else.
        MultipartInvalidError: the boundary is missing or longer than RFC 2046 allows.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        said = kind.decode("latin-1")[:100] or "none"
        raise MultipartRequiredError(
            f"Content-Type is {said}; send the fields as multipart/form-data: "
            "curl -F model=@model.onnx -F density=0.1 -F dataset=digits"
        )
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise MultipartInvalidError(
            "Content-Type has no usable boundary (1 to 70 characters); let your HTTP client set this header"
        )
    return boundary


def disposition_of(headers: dict[bytes, bytes]) -> tuple[str, str | None]:
    """Field name and file name (None: no file) of a part.

    Raises:
        MultipartInvalidError: the part does not say which field it is.
    """
    kind, options = parse_options_header(headers.get(b"content-disposition", b"").decode("latin-1"))
    name = options.get(b"name")
    if kind != b"form-data" or name is None:
        raise MultipartInvalidError("a part has no 'Content-Disposition: form-data; name=...' header")
    filename = options.get(b"filename")
    return _text(name), None if filename is None else clean_filename(_text(filename))


def clean_filename(sent: str) -> str:
    """The last component of a file name, without control characters; it is shown and never used as a path."""
    last = re.split(r"[/\\]", sent)[-1]
    return _CONTROL.sub("", last)[-MAX_NAME:] or "unnamed"


def _text(value: bytes) -> str:
    return value.decode("utf-8", errors="replace")[: 4 * MAX_NAME]
