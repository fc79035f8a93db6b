"""`python -m worker`: a worker with the settings of the environment."""

from __future__ import annotations

import sys

from jobs.errors import ConfigurationError, SandboxUnavailableError
from jobs.sandbox.choice import sandbox_of


def main() -> int:
    """Run a worker until it is told to stop; 2 when it is not configured, 1 when it may not run a model."""
    try:
        from worker.app import app, settings

        sandbox_of(settings)
    except (ConfigurationError, SandboxUnavailableError) as error:
        sys.stderr.write(f"error: {error.message} [{error.code}]\n")
        return error.exit_status
    app.worker_main(
        ["worker", "--loglevel=INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
