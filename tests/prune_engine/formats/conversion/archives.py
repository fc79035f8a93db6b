"""TorchScript archives as nobody's torch writes them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = "m"
CODE = "code/__torch__/tests/prune_engine/formats/conversion/archives.py"


class Plain(nn.Module):
    """The honest model that the others are made from."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.mm(x, self.w)


def changed(
    folder: Path,
    code: str | bytes | None = None,
    members: Mapping[str, str | bytes] | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    """The archive of `Plain` with another body of `forward`, or with other code or members altogether.

    Args:
        code: `forward`'s body, indented by four; or a whole file, if it begins with `class`; as bytes: as is.
        members: added, or put in place of those that are there.
    """
    honest, path = folder / f"{ROOT}.pt", folder / "changed.pt"
    torch.jit.script(Plain()).save(str(honest))
    given = dict(members or {})
    with zipfile.ZipFile(honest) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            name = entry.filename.partition("/")[2]
            content: str | bytes = source.read(entry)
            if name == CODE and code is not None:
                content = _with_body(content, code) if not isinstance(code, bytes) else code
            content = given.pop(name, content)
            if name not in without:
                target.writestr(f"{ROOT}/{name}", content)
        for name, content in given.items():
            target.writestr(f"{ROOT}/{name}", content)
    return path


def _with_body(honest: str | bytes, code: str) -> str:
    if code.startswith("class"):
        return code
    text = honest.decode() if isinstance(honest, bytes) else honest
    head, _, _ = text.partition("    return")
    head = head.partition("    w = self.w")[0]
    return f"{head}    w = self.w\n{code}"
