"""A stranger's tokenizer.json looked through before the tokenizers library builds it.

The library is native code: what makes it panic or ask for terabytes ends the process. So the file is
compared with what tokenizers are: rules that do not make a text many times longer, tables that are as long as
they say.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prune_engine.errors import DataError, DataUnsafeError

_LARGEST = 256 << 20  # bytes
_MOST_GROWTH = 4096  # characters that one of the text may become by all rules together
_MOST_ADDED = 64  # tokens that a template adds to a text


def check_tokenizer(path: Path) -> None:
    """Refuse a tokenizer that would take the process along.

    Raises:
        DataError: no JSON object, or a table that is cut off.
        DataUnsafeError: its rules make a text far longer, or it is larger than any tokenizer.
    """
    size = path.stat().st_size
    if size > _LARGEST:
        raise DataUnsafeError(
            f"tokenizer.json has {size} bytes; at most {_LARGEST} are read", param="tokenizer"
        )
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"tokenizer.json cannot be read: {str(error)[:200]}", param="tokenizer") from None
    if not isinstance(content, dict):
        raise DataError("tokenizer.json holds no JSON object", param="tokenizer")
    growth = 1
    for part in _parts({key: value for key, value in content.items() if key != "model"}):
        growth *= _growth(part)
        if growth > _MOST_GROWTH:
            raise DataUnsafeError(
                f"the rules of tokenizer.json make more than {_MOST_GROWTH} characters of one; that is no "
                "tokenizer",
                param="tokenizer",
            )
        _check_table(part)
        for template in ("single", "pair"):
            added = part.get(template)
            if isinstance(added, list) and len(added) > _MOST_ADDED:
                raise DataUnsafeError(
                    f"tokenizer.json adds {len(added)} tokens to every text; at most {_MOST_ADDED} make "
                    "sense",
                    param="tokenizer",
                )


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value, however deep."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def _growth(part: dict[str, Any]) -> int:
    """How many characters a rule may make of one."""
    if part.get("type") == "Replace":
        return max(len(str(part.get("content", ""))), 1)
    if part.get("type") in ("Prepend", "Append"):
        return 1 + max(len(str(part.get("prepend", part.get("append", "")))) // 64, 0)
    return 1


def _check_table(part: dict[str, Any]) -> None:
    """A table of characters begins with its own length, which the library believes."""
    if part.get("type") != "Precompiled":
        return
    try:
        table = base64.b64decode(part.get("precompiled_charsmap") or "", validate=True)
    except (binascii.Error, ValueError, TypeError):
        table = b""
    said = struct.unpack_from("<I", table)[0] if len(table) >= 4 else -1
    if said < 0 or said > len(table) - 4 or said % 4:
        raise DataError("the table of characters in tokenizer.json is cut off", param="tokenizer")
