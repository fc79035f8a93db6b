"""What every table says of the machine it was measured on, and how tables are stored."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from prune_engine.environment import processor

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """GPU where there is one, processor, cores, memory, Python: one line."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return f"{gpu}{processor()}, {os.cpu_count()} cores, {gib:.0f} GiB, Python {platform.python_version()}"


def store(
    name: str,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    notes: Sequence[str] = (),
    sections: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Print a table and write it as `results/<name>.json` and `.md`; `sections` are lists under headings."""
    RESULTS.mkdir(exist_ok=True)
    measured = {"date": datetime.now(UTC).date().isoformat(), "machine": machine(), "notes": list(notes)}
    record = {"title": title, **measured, "rows": list(rows)} | ({"sections": sections} if sections else {})
    content = json.dumps(record, indent=2) + "\n"
    (RESULTS / f"{name}.json").write_text(content, encoding="utf-8")
    heads = list(dict.fromkeys(head for row in rows for head in row))
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(str(row.get(head, "")) for head in heads) + " |" for row in rows]
    about = [f"Measured {measured['date']} on {measured['machine']}.", *notes]
    lists = [line for head, items in (sections or {}).items() for line in ("", f"## {head}", "", *items)]
    text = "\n".join([f"# {title}", "", *lines, "", *about, *lists, ""])
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)
