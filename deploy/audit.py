"""`make audit`: the pinned packages against the advisories of PyPI.

    python deploy/audit.py [--if-reachable]

Exit status 0: audited, and nothing known. 1: advisories, listed. 3: the advisories could not be reached, so
that nothing was audited; with `--if-reachable` that is 0, and says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
UNREACHABLE = 3
_SECONDS = 300


def main() -> int:
    """Audit; the exit status is the answer."""
    parser = argparse.ArgumentParser(prog="python deploy/audit.py")
    parser.add_argument("--if-reachable", action="store_true", help="0 where the advisories are not reached")
    options = parser.parse_args()
    command = [sys.executable, "-m", "pip_audit", "-r", str(CONSTRAINTS), "--no-deps", "--disable-pip",
               "--progress-spinner", "off", "--format", "json"]  # fmt: skip
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
        status, said = judged(ended.stdout, ended.stderr)
    except subprocess.TimeoutExpired:
        status, said = UNREACHABLE, f"NOT audited: no answer within {_SECONDS} s"
    sys.stdout.write(said + "\n")
    return 0 if status == UNREACHABLE and options.if_reachable else status


def judged(output: str, errors: str) -> tuple[int, str]:
    """The exit status and what to say, from what pip-audit wrote."""
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (errors.strip().splitlines() or ["it said nothing"])[-1]
        return UNREACHABLE, f"NOT audited: the advisories could not be reached ({last[:300]})"
    audited = [package for package in packages if "skip_reason" not in package]
    skipped = [
        f"{package['name']}: {package['skip_reason']}" for package in packages if "skip_reason" in package
    ]
    if not audited:
        return UNREACHABLE, f"NOT audited: none of {len(packages)} packages is known there ({skipped[:1]})"
    found = [
        f"{package['name']} {package['version']}: {one['id']}, fixed in "
        f"{', '.join(one['fix_versions']) or 'no version yet'}"
        for package in audited
        for one in package["vulns"]
    ]
    about = f"{len(audited)} packages audited, {len(skipped)} not known there, {len(found)} advisories"
    return (1 if found else 0), "\n".join([about, *found, *(f"not audited: {one}" for one in skipped)])


if __name__ == "__main__":
    sys.exit(main())
