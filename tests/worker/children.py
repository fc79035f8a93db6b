"""Children that misbehave on demand: tiny programs that stand where `python -m prune_engine run` would.

Each is run as `python <file> DIR` and speaks the real contract of events on standard output.
"""

from __future__ import annotations

import sys
from pathlib import Path

_PRELUDE = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
folder = Path(sys.argv[-1])
me = time.monotonic_ns()  # which process this is: in a sandbox all have the same id

def say(**event):
    event.setdefault("time", time.time())
    print(json.dumps(event), flush=True)

def progress(step, stage="pruning"):
    say(type="progress", stage=stage,
        progress={"fraction": min(step / 100, 1), "step": step, "total_steps": 100}, metrics={"loss": 1.0})

def done(report="{}"):
    out = folder / "out"
    (out / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b" pruned")
    (out / "report.json").write_text(report)
    (out / "figures").mkdir(exist_ok=True)
    (out / "figures" / "curve.svg").write_text("<svg/>")
    say(type="done", density=0.1, metrics={"after": {"accuracy": 97.5}},
        outputs=["model.onnx", "report.json", "figures/curve.svg"])

# A training that keeps checkpoints; `done` has the process that did each step.
class Steps:
    def __init__(self, total, seconds):
        self.total, self.seconds, self.done, self.stop = total, seconds, [], False
        record = folder / "checkpoint.json"
        if record.exists():
            self.done = json.loads((folder / json.loads(record.read_text())["tensors"]).read_text())
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stop", True))

    def keep(self):
        record = folder / "checkpoint.json"
        before = json.loads(record.read_text())["tensors"] if record.exists() else None
        name = f"checkpoint-{len(self.done)}.safetensors"
        (folder / name).write_text(json.dumps(self.done))
        (folder / "record").write_text(json.dumps({"tensors": name}))
        (folder / "record").rename(record)
        if before not in (None, name):
            (folder / before).unlink()
        say(type="checkpoint", files=[name, "checkpoint.json"], step=len(self.done), total_steps=self.total)

    def run(self, every, until=None):
        for step in range(len(self.done), self.total if until is None else until):
            time.sleep(self.seconds)
            self.done.append(me)
            progress(100 * (step + 1) // self.total)
            if self.stop:
                self.keep()
                say(type="stopped")
                sys.exit(3)
            if (step + 1) % every == 0:
                self.keep()

    def end(self):
        done(json.dumps(self.done))

say(type="started", pid=me)
"""

PROGRAMS = {
    "good": "say(type='stage', stage='pruning')\nprogress(50)\ndone()",
    "refuses": "say(type='error', code='operator_unsupported', message='Foo', param='model')\nsys.exit(2)",
    "segfaults": "progress(1)\nprint('about to fall', file=sys.stderr)\nos.kill(os.getpid(), signal.SIGSEGV)",
    "killed": "progress(1)\nos.kill(os.getpid(), signal.SIGKILL)",
    "exits": "print('no more', file=sys.stderr)\nsys.exit(3)",
    "silent": "sys.exit(0)",
    "hangs": "progress(1)\nwhile True: time.sleep(0.1)",
    "ignores_sigterm": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprogress(1)\nwhile True: time.sleep(0.1)"
    ),
    "has_offspring": (
        "subprocess.Popen([sys.executable, '-c', 'import signal, time;"
        " signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)', str(folder)])\n"
        "say(type='warning', message='offspring')\n"
        "while True: time.sleep(0.1)"
    ),
    "leaves_offspring": (
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', str(folder)])\n"
        "say(type='warning', message='offspring')\ndone()"
    ),
    "babbles": (
        "os.write(1, bytes(range(256)) * 50 + b'\\n')\n"
        "print('not json'); print('[1, 2]'); print('{\"type\": \"unheard of\"}')\n"
        'print(\'{"type": "progress"}\', flush=True)\ndone()'
    ),
    "prints_a_huge_line": ("for _ in range(300): os.write(1, b'x' * 1_000_000)\nos.write(1, b'\\n')\ndone()"),
    "floods": "for step in range(20_000): progress(step % 100)\nprogress(99, 'exporting')\ndone()",
    "floods_stderr": "for _ in range(20_000): print('e' * 500, file=sys.stderr)\ndone()",
    "does_not_leave": "done()\ntime.sleep(600)",
    "links_outside": (
        "(folder / 'out' / 'model.onnx').symlink_to('/etc/passwd')\n"
        "(folder / 'out' / 'report.json').write_text('{}')\n"
        "say(type='done', density=0.1, metrics={}, outputs=['model.onnx', 'report.json'])"
    ),
    "names_outside": (
        "(folder / 'out' / 'model.onnx').write_text('x')\n(folder / 'out' / 'report.json').write_text('{}')\n"
        "say(type='done', density=0.1, metrics={}, outputs=['model.onnx', 'report.json', '../spec.json'])"
    ),
    "fills_the_disk": ("for n in range(40): (folder / str(n)).write_bytes(bytes(1_000_000))\ntime.sleep(60)"),
    "tells_its_environment": "say(type='warning', message=json.dumps(dict(os.environ)))\ndone()",
    "tells_its_folder": (
        "say(type='warning', message=json.dumps({p.name: p.read_text() for p in folder.glob('*.*')}))\ndone()"
    ),
    "trains": "steps = Steps(10, 0.1)\nsteps.run(every=2)\nsteps.end()",
    "trains_long": "steps = Steps(100, 0.05)\nsteps.run(every=5)\nsteps.end()",
    "keeps_a_journal": (
        "about = json.loads((folder / 'job.json').read_text())\n"
        "journal = Path(__file__).parent / 'journal' / about['job_id']\n"
        "class Told(list):\n"
        "    def append(self, pid):\n"
        "        super().append(pid)\n"
        "        with journal.open('a') as file: file.write(f'{pid} {time.monotonic()}\\n')\n"
        "steps = Steps(10, 0.1)\nsteps.done = Told(steps.done)\n"
        "steps.run(every=2)\nsteps.end()"
    ),
    "crashes_once": (
        "steps = Steps(10, 0.02)\n"
        "if not steps.done:\n    steps.run(every=2, until=5)\n    time.sleep(1)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "steps.run(every=2)\nsteps.end()"
    ),
    "crashes_late": (
        "steps = Steps(10, 0.02)\nsteps.run(every=2, until=5)\ntime.sleep(1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    ),
    "out_of_disk": "say(type='error', code='disk_full', message='no space')\nsys.exit(1)",
    "slow": "for step in range(40):\n    progress(step)\n    time.sleep(0.1)\ndone()",
}


def write_child(folder: Path, name: str) -> tuple[str, ...]:
    """Write the program and return the command that runs it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(_PRELUDE + PROGRAMS[name])
    return (sys.executable, str(path))


def write_fetcher(folder: Path, body: str) -> tuple[str, ...]:
    """A program that stands where `python -m prune_engine fetch` would."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "fetch.py"
    path.write_text(f"import json, sys, time\nname = sys.argv[1]\n{body}\n")
    return (sys.executable, str(path))
