"""What a child sees of the machine, apart from its own folder: the system, Python, the GPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_SYSTEM: Final = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc/alternatives")
_SYSTEM_FILES: Final = ("/etc/ld.so.cache", "/etc/localtime", "/etc/hosts", "/etc/nsswitch.conf")
_KERNEL: Final = ("/sys/devices/system",)
_KERNEL_GPU: Final = ("/sys/bus/pci", "/sys/devices", "/sys/module/nvidia", "/sys/class/drm")
# To find hosts and check their certificates, for what fetches.
_NETWORK: Final = (
    *("/etc/resolv.conf", "/etc/gai.conf", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/services"),
    *("/run/systemd/resolve/stub-resolv.conf", "/run/systemd/resolve/resolv.conf"),
)
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_LIBRARY_PATHS: Final = ("LD_LIBRARY_PATH", "CUDA_HOME")


@dataclass(frozen=True)
class View:
    """Paths of the machine. `readable` are for reading and running, `devices` for writing as well."""

    readable: tuple[str, ...]
    devices: tuple[str, ...]

    def holds(self, path: Path) -> bool:
        """Whether `path` can be seen."""
        return any(path.is_relative_to(one) for one in self.readable)


@cache
def machine(*, network: bool) -> View:
    """The view of every child of this process."""
    gpu = gpu_devices()
    paths = [*_SYSTEM, *_SYSTEM_FILES, *_KERNEL, *_python()]
    if gpu:
        paths += _KERNEL_GPU
        paths += [part for name in _LIBRARY_PATHS for part in os.environ.get(name, "").split(os.pathsep)]
    if network:
        paths += _NETWORK
    return View(_existing(paths), _existing(_DEVICES) + gpu)


@cache
def gpu_devices() -> tuple[str, ...]:
    """The device files of NVIDIA's driver; none on a machine without one."""
    found = sorted(str(path) for path in Path("/dev").glob("nvidia*"))
    return (*found, *_existing(["/dev/dri"])) if found else ()


def named_in(command: Sequence[str], seen: View) -> tuple[str, ...]:
    """The files that a command names by their whole path, and that are not seen yet: a program, a script."""
    return besides((Path(part) for part in command if part.startswith("/") and Path(part).is_file()), seen)


def besides(paths: Iterable[Path], seen: View) -> tuple[str, ...]:
    """Those of `paths` that are not seen yet."""
    return _existing(str(path) for path in paths if not seen.holds(path))


def _python() -> list[str]:
    """This Python, its packages, and the two packages of ours that run inside."""
    folders = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
    for name in ("prune_engine", "jobs.sandbox"):
        spec = find_spec(name)
        folders += list(spec.submodule_search_locations or ()) if spec is not None else []
    return [*folders, str(_root_of_jobs() / "__init__.py"), str(Path(sys.executable).resolve().parent)]


def _root_of_jobs() -> Path:
    return Path(__file__).parent.parent


def _existing(paths: Iterable[str]) -> tuple[str, ...]:
    """Those that exist, each once, without those that lie in another."""
    kept: list[str] = []
    for path in sorted({path for path in paths if path and os.path.lexists(path)}):
        if not any(Path(path).is_relative_to(other) for other in kept):
            kept.append(path)
    return tuple(kept)
