"""`python -m prune_engine run DIR`, `inspect DIR` and `fetch NAME`: what the worker and the API start."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from prune_engine import child
from prune_engine.processors import prepare_libraries


def main() -> int:
    """Read the command line and do it; the return value is the exit status."""
    prepare_libraries(os.environ)
    parser = argparse.ArgumentParser(prog="python -m prune_engine")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="prune what lies in DIR; events on stdout, files in DIR/out")
    run.add_argument("folder", type=Path, metavar="DIR")
    run.add_argument("--ranks", type=int, help="processes that train together, also on a CPU; default: gpus")
    inspect = commands.add_parser("inspect", help="look through the model in DIR; DIR/out/inspection.json")
    inspect.add_argument("folder", type=Path, metavar="DIR")
    fetch = commands.add_parser("fetch", help="get a named data set and print its path")
    fetch.add_argument("name", metavar="NAME")
    fetch.add_argument("--datasets-dir", type=Path)
    fetch.add_argument("--cache-dir", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "run":
        return child.run(arguments.folder, arguments.ranks)
    if arguments.command == "inspect":
        return child.inspect(arguments.folder)
    return child.fetch(arguments.name, arguments.datasets_dir, arguments.cache_dir)


if __name__ == "__main__":
    sys.exit(main())
