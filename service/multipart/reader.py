"""`MultipartReader`: pulls parts out of a request body, one after the other, chunk by chunk.

python-multipart's low-level parser is pushed into: it calls back with whatever a chunk of the body holds. The
reader turns that around: whoever wants the next piece of a part makes the next chunk be received and parsed.
So a slow artifact store slows the client down, and never more than one chunk of the body is in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from service.errors import FieldInvalidError, FieldTooLargeError, MultipartInvalidError
from service.multipart.headers import disposition_of

MAX_HEADERS: Final = 8
MAX_HEADER_BYTES: Final = 4096


class _End:
    """A part is complete."""


class _Finished:
    """The body is complete."""


@dataclass(frozen=True)
class _Begin:
    name: str
    filename: str | None


_Token = _Begin | _End | _Finished | memoryview


class Part:
    """One part of the body. Its bytes can be read once, before the next part is asked for."""

    def __init__(self, reader: MultipartReader, name: str, filename: str | None) -> None:
        self.name = name
        self.filename = filename
        self._reader = reader

    @property
    def is_file(self) -> bool:
        """Whether the part was sent with a file name."""
        return self.filename is not None

    async def chunks(self) -> AsyncIterator[memoryview]:
        """The part's bytes as they come in: views of the body's chunks, not copies.

        Raises:
            MultipartInvalidError: the body is malformed or ends within the part.
        """
        while isinstance(token := await self._reader.next_token(), memoryview):
            yield token

    async def text(self, limit: int) -> str:
        """The whole part as text.

        Raises:
            FieldTooLargeError: it has more than `limit` bytes.
            FieldInvalidError: it is not UTF-8.
        """
        held = bytearray()
        async for chunk in self.chunks():
            held += chunk
            if len(held) > limit:
                raise FieldTooLargeError(
                    f"{self.name}: a field may have {limit:,} bytes at most", param=self.name
                )
        try:
            return held.decode()
        except UnicodeDecodeError as error:
            raise FieldInvalidError(
                f"{self.name}: byte {error.start} is not UTF-8; send text, or a file with a file name",
                param=self.name,
            ) from None


class MultipartReader:
    """The parts of a multipart/form-data body.

    Args:
        boundary: what separates the parts, from the Content-Type header.
        body: the request's body, in chunks of any size.
        max_parts: how many parts the body may have.
    """

    def __init__(self, boundary: bytes, body: AsyncIterator[bytes], *, max_parts: int) -> None:
        self._body = body
        self._max_parts = max_parts
        self._parts = 0
        self._tokens: deque[_Token] = deque()
        self._headers: dict[bytes, bytes] = {}
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_end": self._on_end,
            },
            max_header_count=MAX_HEADERS,
            max_header_size=MAX_HEADER_BYTES,
        )

    async def parts(self) -> AsyncIterator[Part]:
        """Every part in the order in which it was sent; what is left unread of a part is skipped.

        Raises:
            MultipartInvalidError: the body is malformed, ends early or has too many parts.
        """
        while not isinstance(token := await self.next_token(), _Finished):
            if isinstance(token, _Begin):
                yield Part(self, token.name, token.filename)

    async def next_token(self) -> _Token:
        """The next thing that the body holds, received and parsed if need be."""
        while not self._tokens:
            try:
                chunk = await anext(self._body)
            except StopAsyncIteration:
                raise MultipartInvalidError(
                    "the body ends before its closing boundary; the upload was cut short, send it again"
                ) from None
            if chunk:
                self._parse(chunk)
        return self._tokens.popleft()

    def _parse(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MultipartInvalidError(f"the body is not well-formed multipart/form-data: {error}") from None

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > self._max_parts:
            raise MultipartInvalidError(f"the body has more than {self._max_parts} parts")
        self._headers = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        if self._headers.get(b"content-transfer-encoding", b"binary").lower() not in (
            b"binary",
            b"8bit",
            b"7bit",
        ):
            raise MultipartInvalidError("a part has a Content-Transfer-Encoding; send its bytes as they are")
        self._tokens.append(_Begin(*disposition_of(self._headers)))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._tokens.append(memoryview(data)[start:end])

    def _on_part_end(self) -> None:
        self._tokens.append(_End())

    def _on_end(self) -> None:
        self._tokens.append(_Finished())
