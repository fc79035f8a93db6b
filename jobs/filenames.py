"""What the files of a job are called when somebody saves them, and what types they have.

The service says so in its answers; the worker says so to an object store, which tells it to those who are
sent there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

BINARY: Final = "application/octet-stream"
ZIP: Final = "application/zip"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".zip": ZIP,
}
_ENDINGS: Final = re.compile(r"(\.torchscript)?(\.onnx)?\.(onnx|pt|pt2|pth|ts|zip)$", re.IGNORECASE)
_MODELS: Final = re.compile(r"model\.(onnx|zip)|models/[^/]+\.(onnx|zip)")


@dataclass(frozen=True)
class SavedAs:
    """The name to save a file under, and its type."""

    filename: str
    media_type: str

    def headers(self) -> dict[Any, Any]:
        """As headers of HTTP, which are attributes of a file in an object store."""
        return {
            "Content-Type": self.media_type,
            "Content-Disposition": disposition(self.filename, save=True),
        }


def media_type(name: str) -> str:
    """The type of a file, by its ending."""
    return _TYPES.get(name[name.rfind(".") :], BINARY)


def is_saved(name: str) -> bool:
    """Whether a file is one to save, and not one that a browser shows."""
    return media_type(name) in (BINARY, ZIP)


def saved_as(sent: str, name: str) -> SavedAs:
    """What to save the output `name` as, of a job whose model was sent as `sent`.

    `resnet20.torchscript.pt` gives `resnet20.pruned.onnx`; of several densities, `resnet20.density-0.1.onnx`.
    """
    filename = name.rpartition("/")[2]
    if _MODELS.fullmatch(name):
        stem, _, ending = filename.rpartition(".")
        filename = f"{_ENDINGS.sub('', sent) or 'model'}.{'pruned' if stem == 'model' else stem}.{ending}"
    return SavedAs(filename, media_type(name))


def disposition(filename: str, save: bool) -> str:
    """`Content-Disposition` with a plain name that curl -OJ takes, and the exact one for browsers."""
    plain = re.sub(r"[^\w.\- ()+]", "_", filename, flags=re.ASCII)
    kind = "attachment" if save else "inline"
    exact = "" if plain == filename else f"; filename*=UTF-8''{quote(filename, safe='')}"
    return f'{kind}; filename="{plain}"{exact}'
