"""Proofs that the importer takes what people have; each writes its table to `benchmarks/results/`.

    python -m benchmarks.conformance [backend | zoo | shared | speed | large]      all of them without a name

Each runs in a process of its own; options after the name go to it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from subprocess import run

PARTS = {
    "backend": "backend_suite",
    "zoo": "zoo",
    "shared": "shared_models",
    "speed": "speed",
    "large": "large_file",
}


def main(arguments: list[str]) -> int:
    """Run one part, or each after the other; 0 when all came up to their line."""
    if not arguments:
        return max(run([sys.executable, "-m", "benchmarks.conformance", part]).returncode for part in PARTS)
    if arguments[0] not in PARTS:
        print(__doc__)
        return 2
    part = import_module(f"benchmarks.conformance.{PARTS[arguments[0]]}")
    code: int = part.main(arguments[1:])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
