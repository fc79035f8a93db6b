"""What a child process knows of its surroundings: the way to its libraries, and nothing worth stealing."""

from __future__ import annotations

import os
from pathlib import Path

from jobs.settings import Settings
from prune_engine.processors import fewer_than_there_are, for_libraries

# What a child needs to find its libraries and its GPU; everything else stays with the process that starts it.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "CUDA_HOME")


def child_environment(settings: Settings, folder: Path) -> dict[str, str]:
    """All that a child knows of its surroundings: no address, no secret."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    scratch = str(folder / "tmp")
    environment |= {"HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    environment |= {"USER": "prunery", "LOGNAME": "prunery"}  # the user inside has no name
    return environment | for_libraries(settings.child_threads or fewer_than_there_are())
