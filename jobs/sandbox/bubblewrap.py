"""The way with namespaces, made by bubblewrap: its own files, processes, users, network and IPC.

https://github.com/containers/bubblewrap. As anybody it needs user namespaces; as root it does without them,
and every child becomes a user of its own.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from jobs.process import die_with_parent
from jobs.sandbox import policy, users, view
from jobs.sandbox.cell import Cell, Wish, stage_command, stage_settings

_INSIDE = "65534"
_TMP = "/tmp"  # noqa: S108 - the cell's own, empty
_SHARED_MEMORY = ("/dev/shm", 1024**3)  # noqa: S108 - the cell's own, empty


def installed() -> str | None:
    """The path of the program."""
    return shutil.which("bwrap")


def cell(wish: Wish) -> Cell:
    """The wish as a command of bubblewrap. Root gives the folder away first; what it shares it keeps."""
    nobody = users.nobody()
    uid = None if wish.writable else nobody
    if uid is not None:
        users.give(wish.folder, uid)
    settings = stage_settings(
        wish.limits.of_each_process(),
        policy.in_namespaces(gpu=bool(view.gpu_devices())),
        folder=str(wish.folder),
        uid=uid,
    )
    seen = view.machine(network=wish.network == "open")
    readable = (*seen.readable, *view.named_in(wish.command, seen), *view.besides(wish.readable, seen))
    command = [
        installed() or "bwrap",
        *_namespaces(wish.network, as_root=nobody is not None),
        *_folders((*readable, *map(str, wish.own))),
        *_files(readable),
        *_devices(seen.devices),
        *_own(wish),
        *("--remount-ro", "/", "--chdir", "/", "--"),
        *stage_command(settings, wish.command),
    ]
    # A SIGTERM to the group is for the command inside; bubblewrap ends when that has ended.
    before = die_with_parent(ignore=(signal.SIGTERM,))
    return Cell(command, wish.folder, wish.limits, before, shell_statuses=True)


def _namespaces(network: policy.Network, *, as_root: bool) -> Iterator[str]:
    yield from ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
    yield from ("--hostname", "localhost", "--die-with-parent", "--cap-drop", "ALL")
    if network != "open":
        yield "--unshare-net"  # with a loopback interface of its own
    if as_root:
        yield from ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
    else:
        yield from ("--unshare-user", "--uid", _INSIDE, "--gid", _INSIDE)


def _folders(paths: Sequence[str]) -> Iterator[str]:
    """What lies above them: open for everybody, where bubblewrap would make it root's own."""
    for folder in sorted({parent for path in paths for parent in Path(path).parents} - {Path("/")}):
        yield from ("--perms", "0755", "--dir", str(folder))


def _files(paths: Sequence[str]) -> Iterator[str]:
    for path in paths:
        if Path(path).is_symlink() and Path(path).parent == Path("/"):
            yield from ("--symlink", str(Path(path).readlink()), path)
        else:
            yield from ("--ro-bind-try", path, path)


def _devices(devices: Sequence[str]) -> Iterator[str]:
    yield from ("--proc", "/proc", "--dev", "/dev")
    for path in devices:
        if path.startswith(("/dev/nvidia", "/dev/dri")):
            yield from ("--dev-bind-try", path, path)
    place, size = _SHARED_MEMORY
    yield from ("--perms", "1777", "--size", str(size), "--tmpfs", place, "--remount-ro", "/dev")


def _own(wish: Wish) -> Iterator[str]:
    for folder in wish.own:
        yield from ("--bind", str(folder), str(folder))
    if not wish.folder.is_relative_to(_TMP):
        yield from ("--symlink", str(wish.folder / "tmp"), _TMP)
