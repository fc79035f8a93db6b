"""A stranger's program inside every sandbox of this machine: whatever it tries, it gets nothing."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.jobs.sandbox.attacker import (
    Listener,
    Way,
    attack,
    every_way,
    finish,
    skip_unless_here,
    start,
)
from tests.processes import running_for

pytestmark = [every_way, pytest.mark.skipif(sys.platform != "linux", reason="Linux only")]


@pytest.fixture(autouse=True)
def _here(way: Way) -> None:
    skip_unless_here(way)


def refused(lines: list[str]) -> None:
    """Every attempt was refused, and there was one."""
    assert lines
    assert [line for line in lines if ": refused " not in line] == []


def test_an_honest_program_works(way: Way, tmp_path: Path) -> None:
    body = """
(folder / "out" / "model").write_text("pruned")
os.replace(folder / "out" / "model", folder / "out" / "model.onnx")
import tempfile
with tempfile.TemporaryFile() as file: file.write(b"x")
left, right = socket.socketpair()
done = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True, check=True)
import threading
thread = threading.Thread(target=print, args=("thread",)); thread.start(); thread.join()
print(done.stdout.strip(), os.cpu_count() > 0, Path("/proc/cpuinfo").exists(), os.getcwd() == str(folder))
sys.exit(3)
"""
    outcome = attack(way, tmp_path, body)
    assert outcome.lines == ["thread", "42 True True True"], outcome.errors
    assert outcome.status == 3
    assert (tmp_path / "scratch/worker/job/out/model.onnx").read_text() == "pruned"


def test_no_file_of_others_is_read(way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    secret = tmp_path / "data" / "artifacts" / "other.onnx"
    other = tmp_path / "scratch" / "worker" / "other-job" / "model.onnx"
    for path in (secret, other, tmp_path / ".env"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("hidden")
    us = f"/proc/{os.getpid()}"
    files = [
        *(str(secret), str(other), str(tmp_path / ".env"), "../other-job/model.onnx"),
        *("/etc/shadow", "/etc/passwd", "/root/.bashrc", "/dev/mem", "/dev/kmsg"),
        *(f"{us}/environ", f"{us}/mem", f"{us}/maps", f"{us}/root/etc/shadow", f"{us}/cwd/pyproject.toml"),
    ]
    folders = [str(tmp_path), str(tmp_path / "scratch" / "worker"), "/home", "/var", "/run", "/etc/ssh"]
    known = ["job", "scratch", "worker", "attack.py"]
    body = f"""
for path in {files}:
    attempt(path, lambda: open(path, "rb").read(100))
for path in {folders}:
    attempt(path, lambda: [name for name in os.listdir(path) if name not in {known}] or 1 / 0)
os.symlink({str(secret)!r}, folder / "link")
attempt("symlink", lambda: (folder / "link").read_bytes())
attempt("hardlink", lambda: os.link({str(secret)!r}, folder / "hard"))
attempt("hardlink of the system", lambda: os.link(sys.executable, folder / "hard"))
attempt("environment", lambda: repr(os.environ) if "hidden" in repr(os.environ) else 1 / 0)
attempt("of the first", lambda: 1 / (b"hidden" in open("/proc/1/environ", "rb").read()))
"""
    refused(attack(way, tmp_path, body).lines)


def test_nothing_outside_is_written(way: Way, tmp_path: Path, file_beside_python: Path) -> None:
    victim = tmp_path / "data" / "record"
    victim.parent.mkdir()
    victim.parent.chmod(0o777)
    victims = (victim, file_beside_python)
    for one in victims:
        one.write_text("the truth")
        one.chmod(0o666)
    before = [(one.stat().st_mode, one.stat().st_uid, one.stat().st_mtime) for one in victims]
    folders = [str(tmp_path), "/usr/bin", "/", "/dev", "/etc", "/var/tmp", sys.prefix]
    body = f"""
def make(path):  # and take it away again, should it be there
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)); os.unlink(path); return "made"
for path in {folders}:
    attempt(f"make a file in {{path}}", lambda: make(path + "/prunery-escaped"))
attempt("a setting of the kernel", lambda: os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
for path in {[str(one) for one in victims]}:
    attempt(f"write {{path}}", lambda: open(path, "r+b").write(b"x"))
    attempt(f"truncate {{path}}", lambda: os.truncate(path, 0))
    attempt(f"open to truncate {{path}}", lambda: os.open(path, os.O_RDONLY | os.O_TRUNC))
    attempt(f"chmod {{path}}", lambda: os.chmod(path, 0))
    attempt(f"chown {{path}}", lambda: os.chown(path, 1, 1))
    attempt(f"utime {{path}}", lambda: os.utime(path, (0, 0)))
    attempt(f"xattr {{path}}", lambda: os.setxattr(path, "user.x", b"x"))
    attempt(f"rename {{path}}", lambda: os.rename(path, folder / "mine"))
    attempt(f"replace {{path}}", lambda: os.rename(folder / "tmp", path))
    attempt(f"unlink {{path}}", lambda: os.unlink(path))
attempt("mknod", lambda: os.mknod(folder / "device", stat.S_IFBLK | 0o600, os.makedev(254, 0)))
attempt("mknod char", lambda: os.mknod(folder / "device", stat.S_IFCHR | 0o600, os.makedev(1, 1)))
attempt("chroot", lambda: os.chroot(folder))
"""
    refused(attack(way, tmp_path, body).lines)
    assert [one.read_text() for one in victims] == ["the truth", "the truth"]
    assert [(one.stat().st_mode, one.stat().st_uid, one.stat().st_mtime) for one in victims] == before


@pytest.fixture
def file_beside_python(tmp_path: Path) -> Iterator[Path]:
    """A file that can be seen inside, as the libraries can, where Python is ours to write to."""
    place = Path(sys.prefix) if os.access(sys.prefix, os.W_OK) else tmp_path
    path = place / f"prunery-test-{secrets.token_hex(4)}"
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[tuple[dict[str, object], list[Listener]]]:
    tcp, path, abstract, udp = (
        socket.create_server(("127.0.0.1", 0)),
        socket.socket(socket.AF_UNIX),
        socket.socket(socket.AF_UNIX),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    )
    name = f"\0prunery-{secrets.token_hex(4)}"
    path.bind(str(tmp_path / "valkey.sock"))
    (tmp_path / "valkey.sock").chmod(0o777)
    abstract.bind(name)
    udp.bind(("127.0.0.1", 0))
    udp.settimeout(0.5)
    for listening in (path, abstract):
        listening.listen()
    seen = [Listener(one) for one in (tcp, path, abstract)]
    names = {"tcp": tcp.getsockname()[1], "path": str(tmp_path / "valkey.sock"), "abstract": name, "udp": udp}
    yield names, seen
    for one in (tcp, path, abstract, udp):
        one.close()


def test_nobody_is_reached(
    way: Way, tmp_path: Path, listeners: tuple[dict[str, object], list[Listener]]
) -> None:
    names, seen = listeners
    udp = names["udp"]
    assert isinstance(udp, socket.socket)
    body = f"""
def unix(address):
    with socket.socket(socket.AF_UNIX) as mine: mine.connect(address)
def datagram(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine: return mine.sendto(b"x", address)
attempt("loopback", lambda: socket.create_connection(("127.0.0.1", {names["tcp"]}), 2))
attempt("outside", lambda: socket.create_connection(("192.0.2.1", 80), 2))
attempt("outside 6", lambda: socket.create_connection(("2001:db8::1", 80), 2))
attempt("by path", lambda: unix({names["path"]!r}))
attempt("abstract", lambda: unix({names["abstract"]!r}))
attempt("udp outside", lambda: datagram(("192.0.2.1", 53)))
attempt("dns", lambda: socket.getaddrinfo("example.org", 80))
for family, kind in ((17, 3), (29, 2), (38, 5), (40, 1)):  # packet, can, crypto, vsock
    attempt(f"family {{family}}", lambda: socket.socket(family, kind))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
try: datagram(("127.0.0.1", {udp.getsockname()[1]}))
except OSError: pass
"""
    refused(attack(way, tmp_path, body).lines)
    assert [one.visits for one in seen] == [0, 0, 0]
    with pytest.raises(TimeoutError):
        udp.recv(10)


def test_other_processes_cannot_be_touched(way: Way, tmp_path: Path) -> None:
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    body = f"""
pid, us = {victim.pid}, {os.getpid()}
for number in (0, signal.SIGTERM, signal.SIGKILL):
    attempt(f"kill {{number}}", lambda: os.kill(pid, number))
attempt("the parent", lambda: os.kill(os.getppid(), 0) if os.getppid() not in (0, 1) else 1 / 0)
attempt("tgkill", lambda: call(234, pid, pid, 9))
attempt("tkill", lambda: call(200, pid, 9))
attempt("sigqueue", lambda: call(129, pid, 9, ctypes.create_string_buffer(128)))
attempt("pidfd", lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL))
attempt("ptrace", lambda: call(101, 16, pid, 0, 0))
attempt("ptrace seize", lambda: call(101, 0x4206, pid, 0, 0))
attempt("read memory", lambda: call(310, pid, 0, 0, 0, 0, 0))
attempt("limits", lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (0, 0)))
attempt("limits of the worker", lambda: resource.prlimit(us, resource.RLIMIT_NOFILE))
attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
attempt("scheduler", lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)))
attempt("pidfd_getfd", lambda: call(438, 0, 0, 0))
import fcntl
read, write = os.pipe()
def by_owner():
    fcntl.fcntl(read, fcntl.F_SETOWN, pid); fcntl.fcntl(read, 10, signal.SIGKILL)
    fcntl.fcntl(read, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(write, b"x"); time.sleep(0.2); return "sent"
attempt("by owner", by_owner)
"""
    lines = attack(way, tmp_path, body).lines
    # In namespaces a number that is no process there is owned by nobody: nothing is sent to anybody.
    refused([line for line in lines if not line.startswith("by owner")])
    assert victim.poll() is None
    assert psutil.Process(victim.pid).nice() == psutil.Process().nice()
    victim.kill()
    victim.wait()


def test_no_way_to_more_rights(way: Way, tmp_path: Path) -> None:
    body = """
attempt("user namespace", lambda: call(272, 0x10000000))
attempt("mount namespace", lambda: call(272, 0x00020000))
attempt("clone with namespaces", lambda: call(56, 0x10000000 | 17, 0, 0, 0, 0))
attempt("clone3", lambda: call(435, ctypes.create_string_buffer(88), 88))
attempt("setns", lambda: call(308, 0, 0))
attempt("mount", lambda: call(165, b"none", str(folder).encode(), b"tmpfs", 0, 0))
attempt("fsopen", lambda: call(430, b"tmpfs", 0))
attempt("open_tree", lambda: call(428, -100, b"/", 1))
attempt("pivot_root", lambda: call(155, b".", b"."))
attempt("bpf", lambda: call(321, 0, 0, 0))
attempt("perf", lambda: call(298, ctypes.create_string_buffer(128), 0, -1, -1, 0))
attempt("keyctl", lambda: call(250, 0, -3, 0))
attempt("userfaultfd", lambda: call(323, 1))
attempt("io_uring", lambda: call(425, 8, ctypes.create_string_buffer(120)))
attempt("handles", lambda: call(304, -100, 0, 0))
attempt("a call of tomorrow", lambda: call(1000))
attempt("a call of x32", lambda: call(0x40000000 + 39))
attempt("personality", lambda: call(135, 0x0040000))
attempt("memory without a name", lambda: os.memfd_create("x"))
attempt("set user", lambda: os.setuid(12345))
attempt("set groups", lambda: os.setgroups([0]))
attempt("higher limits", lambda: resource.setrlimit(resource.RLIMIT_NPROC, (1 << 20, 1 << 20)))
attempt("higher file limit", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 50, 1 << 50)))
attempt("core dumps", lambda: resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20)))
import fcntl, termios
attempt("typing for others", lambda: fcntl.ioctl(0, termios.TIOCSTI, b"x"))
for line in open("/proc/self/status"):
    name, _, value = line.partition(":")
    if name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
        print(f"{name}: refused {int(value, 16)}")
    if name == "NoNewPrivs":
        print(f"{name}: refused {value.strip()}")
def shadow():
    done = subprocess.run(["su", "-c", "cat /etc/shadow"], capture_output=True, stdin=subprocess.DEVNULL)
    return done.stdout.decode() or 1 / 0
attempt("setuid program", shadow)
"""
    outcome = attack(way, tmp_path, body)
    refused(outcome.lines)
    for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
        assert outcome.of(name) == "refused 0"
    assert outcome.of("NoNewPrivs") == "refused 1"


FLEES = """
for _ in range(2):
    if os.fork() == 0:
        try: os.setsid()
        except OSError: pass
        if os.fork():
            os._exit(0)
        for handle in (0, 1, 2): os.close(handle)
        os.chdir("/")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)", str(folder)])
"""


def test_nothing_outlives_the_job(way: Way, tmp_path: Path) -> None:
    attack(way, tmp_path, FLEES + "time.sleep(1)\n")
    until = time.monotonic() + 10
    while running_for(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    assert running_for(tmp_path) == []


def test_nothing_outlives_the_worker(way: Way, tmp_path: Path) -> None:
    worker = (
        "import sys, time\nfrom pathlib import Path\nfrom tests.jobs.sandbox.attacker import Way, start\n"
        f"child = start(Way({way.name!r}, {way.version!r}), Path(sys.argv[1]), sys.argv[2])\n"
        "print(child.line(30), flush=True)\ntime.sleep(600)\n"
    )
    body = FLEES + "print('ready', flush=True)\ntime.sleep(600)\n"
    running = subprocess.Popen(
        [sys.executable, "-c", worker, str(tmp_path), body], stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert running.stdout is not None
    assert b"ready" in running.stdout.readline()
    assert running_for(tmp_path / "scratch")
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    until = time.monotonic() + 20
    while running_for(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    assert running_for(tmp_path) == []


def test_sigterm_is_for_the_program(way: Way, tmp_path: Path) -> None:
    body = """
def leave(*_): os.write(1, b"stopped"); os._exit(3)
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
time.sleep(60)
"""
    child = start(way, tmp_path, body)
    line = None
    until = time.monotonic() + 30
    while line is None and time.monotonic() < until:
        line = child.line(0.1)
    assert line == b"ready", child.errors()
    os.killpg(child.pid, signal.SIGTERM)
    outcome = finish(child)
    assert (outcome.lines, outcome.status) == (["stopped"], 3)


def test_a_crash_keeps_its_signal(way: Way, tmp_path: Path) -> None:
    outcome = attack(way, tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)")
    assert outcome.status == -signal.SIGSEGV
    assert "SIGSEGV" in outcome.reason
