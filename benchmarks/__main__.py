"""`make bench`: the quick figures, one after the other so that none disturbs another.

Slow ones are run by name: `python -m benchmarks.curl_jobs`.
"""

from __future__ import annotations

import subprocess
import sys

QUICK = ("gated_step", "api")


def main() -> int:
    """Run each in a process of its own; 0 when all did."""
    return max(subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode for name in QUICK)


if __name__ == "__main__":
    sys.exit(main())
