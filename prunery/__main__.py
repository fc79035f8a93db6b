"""`python -m prunery`: the same as the command `prunery`."""

from __future__ import annotations

from prunery.cli import main

if __name__ == "__main__":
    main()
