"""Whether a tokenizer file can be a Hugging Face `tokenizer.json`; it is not parsed."""

from __future__ import annotations

from prune_engine.errors import DataFormatError


class TokenizerSniffer:
    """Watches a tokenizer stream by."""

    def __init__(self, filename: str) -> None:
        self._filename = filename
        self._head = b""
        self._tail = b""

    def feed(self, chunk: bytes | memoryview) -> None:
        """Look at the next bytes of the file."""
        if len(self._head) < 16:
            self._head += bytes(chunk[:16])
        self._tail = (self._tail + bytes(chunk[-16:]))[-16:]

    def finish(self) -> None:
        """Check that what went by is one JSON object by its looks.

        Raises:
            DataFormatError: it is something else, empty or cut short.
        """
        if not self._head.lstrip().startswith(b"{") or not self._tail.rstrip().endswith(b"}"):
            raise DataFormatError(
                f"{self._filename} is no tokenizer.json; save one with tokenizer.save('tokenizer.json')",
                param="tokenizer",
            )
