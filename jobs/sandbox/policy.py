"""Which system calls are refused inside, and why. The calls that a training makes are not among them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from jobs.sandbox.program import Rule, Test, assemble
from jobs.sandbox.stage import OWN_PID
from jobs.sandbox.syscalls import architecture

Network = Literal["none", "loopback", "open"]

# Looking into other processes, and into the kernel.
_OTHERS: Final = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease"),
    *("kcmp", "pidfd_getfd", "move_pages", "migrate_pages", "perf_event_open", "bpf", "userfaultfd"),
    *("keyctl", "add_key", "request_key", "syslog", "lookup_dcookie", "memfd_secret"),
)
# Calls that do the work of others, past every rule here.
_PAST_RULES: Final = ("io_uring_setup", "io_uring_enter", "io_uring_register")
_MOUNTS: Final = (
    *("mount", "umount2", "pivot_root", "chroot", "mount_setattr", "move_mount", "open_tree"),
    *("open_tree_attr", "fsopen", "fsconfig", "fsmount", "fspick", "statmount", "listmount"),
    *("unshare", "setns", "name_to_handle_at", "open_by_handle_at"),
    *("fanotify_init", "fanotify_mark", "mknod"),
)
_MACHINE: Final = (
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot"),
    *("swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "settimeofday", "clock_settime"),
    *("clock_adjtime", "adjtimex", "sethostname", "setdomainname", "iopl", "ioperm", "nfsservctl"),
    *("vhangup", "personality", "uselib", "ustat", "_sysctl"),
)
# What Landlock does not know of: it leaves these to the rights of the user, who owns more than the folder.
_ATTRIBUTES: Final = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchown", "fchownat"),
    *("setxattr", "lsetxattr", "fsetxattr", "setxattrat", "removexattr", "lremovexattr", "fremovexattr"),
    *("removexattrat", "file_setattr", "utime", "utimes", "futimesat", "utimensat"),
)
_SHARED: Final = (
    *("shmget", "shmat", "shmctl", "msgget", "msgsnd", "msgrcv", "msgctl"),
    *("semget", "semctl", "semtimedop", "mq_open", "mq_unlink"),
)
# A process that stays in its group stands still and ends with it.
_LEAVING: Final = ("setsid", "setpgid")
_SIGNALS: Final = ("tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal")

_NEW_NAMESPACES: Final = 0x7E020080  # every CLONE_NEW* flag
_S_IFMT, _S_IFREG, _S_IFIFO = 0o170000, 0o100000, 0o010000
_TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP = 0x5412, 0x541C, 0x8901, 0x8902
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
_O_ACCMODE, _O_TRUNC = 0o3, 0o1000
_SEQPACKET, _TYPE = 5, 0xF
_FAMILIES: Final = (0, socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, 16)  # 16: AF_NETLINK
LANDLOCK_TRUNCATE, LANDLOCK_SCOPES = 3, 6  # since which version Landlock knows them


def supported() -> bool:
    """Whether there is a table of calls for this machine's architecture."""
    return architecture() is not None


def in_namespaces(*, gpu: bool) -> bytes:
    """The filter on top of namespaces, which already keep other processes, files and networks away."""
    return _assembled([*_always(gpu=gpu), *_each(_LEAVING), _only_families(_FAMILIES)])


def beside_landlock(version: int, network: Network, *, gpu: bool) -> bytes:
    """The filter that stands beside Landlock: all that namespaces would do and Landlock does not.

    Before version 6 the only process that may get a signal is the one that installs the filter, which puts
    its own id where the filter says `stage.OWN_PID`.

    Args:
        version: of Landlock, 1 or more; the older, the more is refused here.
        network: `open` for what fetches; `loopback` cannot be had without namespaces.
        gpu: CUDA opens a socket of a kind that nothing else uses, and files without a name.
    """
    rules = [
        *_always(gpu=gpu),
        *_each(_ATTRIBUTES),
        *_each(_SHARED),
        *_each(_LEAVING),
        *_sockets(network, gpu),
    ]
    rules += [
        Rule("ioctl", (Test(1, (_FIOSETOWN, _SIOCSPGRP)),)),
        Rule("fcntl", (Test(1, (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX)),)),
    ]
    rules += [
        Rule(name, (Test(argument, (0,), unless=True),))
        for name, argument in (
            *(("sched_setscheduler", 0), ("sched_setparam", 0), ("sched_setattr", 0)),
            *(("setpriority", 1), ("ioprio_set", 1)),
        )
    ]
    if version < LANDLOCK_TRUNCATE:
        # Cutting a file off needs no handle that is open for writing, so Landlock does not see it.
        rules += [
            Rule("truncate"),
            Rule("open", (Test(1, (_O_TRUNC,), _O_ACCMODE | _O_TRUNC),)),
            Rule("openat", (Test(2, (_O_TRUNC,), _O_ACCMODE | _O_TRUNC),)),
            Rule("openat2", error=errno.ENOSYS),
        ]
    if version < LANDLOCK_SCOPES:
        only_itself = (Test(0, (OWN_PID,), unless=True),)
        rules += [*_each(_SIGNALS), Rule("kill", only_itself), Rule("tgkill", only_itself)]
    return _assembled(rules)


def _always(*, gpu: bool) -> Iterable[Rule]:
    yield from _each((*_OTHERS, *_PAST_RULES, *_MOUNTS, *_MACHINE))
    for flag in _bits(_NEW_NAMESPACES):
        yield Rule("clone", (Test(0, (flag,), flag),))
    # Its flags lie in memory, where a filter cannot look; libraries then use clone.
    yield Rule("clone3", error=errno.ENOSYS)
    yield Rule("mknodat", (Test(2, (0, _S_IFREG, _S_IFIFO), _S_IFMT, unless=True),))
    yield Rule("prlimit64", (Test(0, (0,), unless=True),))
    yield Rule("ioctl", (Test(1, (_TIOCSTI, _TIOCLINUX)),))
    if not gpu:
        yield Rule("memfd_create")  # memory that no limit of a process counts


def _sockets(network: Network, gpu: bool) -> list[Rule]:
    """Pairs of sockets are a kind of pipe; whatever has an address is the network."""
    pairs = Rule("socketpair", (Test(0, (socket.AF_UNIX,), unless=True),))
    if network == "open":
        return [pairs, _only_families((0, socket.AF_INET, socket.AF_INET6, 16))]
    if gpu:
        kind = Test(1, (_SEQPACKET,), _TYPE, unless=True)
        return [pairs, _only_families((socket.AF_UNIX,)), Rule("socket", (kind,))]
    return [pairs, Rule("socket")]


def _only_families(allowed: Sequence[int]) -> Rule:
    return Rule("socket", (Test(0, tuple(allowed), unless=True),), errno.EAFNOSUPPORT)


def _each(names: Iterable[str]) -> list[Rule]:
    return [Rule(name) for name in names]


def _bits(mask: int) -> list[int]:
    return [1 << place for place in range(32) if mask >> place & 1]


def _assembled(rules: Iterable[Rule]) -> bytes:
    here = architecture()
    if here is None:
        raise RuntimeError("no table of system calls for this architecture")
    return assemble(tuple(rules), here)
