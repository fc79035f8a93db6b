import fnmatch
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.deploy.files import (
    DOCKERFILE,
    ROOT,
    dockerfile_stages,
    image_environment,
    inherited,
    setting_names,
)

STAGES = dockerfile_stages()
targets = pytest.mark.parametrize("target", ["cpu", "cuda"])


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    run = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@targets
def test_the_image_runs_the_service_as_nobody_in_particular(target: str) -> None:
    assert inherited(STAGES, target, "USER") == "10001:10001"
    assert inherited(STAGES, target, "CMD") == '["prunery", "up"]'
    assert inherited(STAGES, target, "HEALTHCHECK")


@targets
def test_the_image_is_configured_by_settings_that_exist(target: str) -> None:
    environment = image_environment(target)
    prunery = {name for name in environment if name.startswith("PRUNERY_")}
    assert prunery
    assert prunery <= setting_names()
    assert inherited(STAGES, target, "EXPOSE") == environment["PRUNERY_PORT"]
    volumes = inherited(STAGES, target, "VOLUME") or ""
    assert f'"{environment["PRUNERY_DATA_DIR"]}"' in volumes
    assert f'"{environment["PRUNERY_SCRATCH_DIR"]}"' in volumes
    made = next(text for name, text in STAGES["runtime"].instructions if name == "RUN")
    assert f"{environment['PRUNERY_DATA_DIR']} {environment['PRUNERY_SCRATCH_DIR']}" in made


def test_only_the_cuda_target_asks_for_a_gpu() -> None:
    assert "NVIDIA_VISIBLE_DEVICES" in image_environment("cuda")
    assert "NVIDIA_VISIBLE_DEVICES" not in image_environment("cpu")


def test_the_constraints_are_honoured_and_no_index_is_written_down() -> None:
    installs = [
        line.strip()
        for line in DOCKERFILE.read_text().splitlines()
        if "pip install" in line and "--no-deps" not in line
    ]
    assert installs
    assert all("--constraint constraints.txt" in line for line in installs)
    assert not re.search(r"://(?!127\.0\.0\.1)", DOCKERFILE.read_text())
    assert 'ARG TORCH_INDEX=""' in DOCKERFILE.read_text()


def test_the_requirements_are_those_of_the_project(tmp_path: Path) -> None:
    """Runs the line of the Dockerfile that takes them from pyproject.toml."""
    line = next(text for _, text in STAGES["dependencies"].instructions if "tomllib" in text)
    script = line[line.index('python -c "') + len('python -c "') : line.index('" > requirements.txt')]
    printed = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert printed.stdout.split("\n")[:-1] == project["dependencies"] + extras["hf"] + extras["otel"]


def ignored(path: str, patterns: list[str]) -> bool:
    """Docker's rules for the patterns of this .dockerignore: the last that matches decides."""
    out = False
    for pattern in patterns:
        kept = pattern.startswith("!")
        plain = pattern.lstrip("!")
        parts = path.split("/")
        if plain.startswith("**/"):
            hit = any(fnmatch.fnmatch(part, plain[3:]) for part in parts)
        else:
            hit = any(fnmatch.fnmatch("/".join(parts[: end + 1]), plain) for end in range(len(parts)))
        out = not kept if hit else out
    return out


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a build is given: the project's files without those that .dockerignore leaves out."""
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    folder = tmp_path_factory.mktemp("context")
    for name in files:
        if not ignored(name, patterns) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def test_what_is_copied_is_there(context: Path) -> None:
    copied = [
        word
        for stage in STAGES.values()
        for name, text in stage.instructions
        if name == "COPY" and "--from" not in text
        for word in text.split()[:-1]
    ]
    assert {"constraints.txt", "pyproject.toml", "deploy/sbom.sh", "."} <= set(copied)
    assert [name for name in copied if not (context / name).exists()] == []


def test_nothing_but_the_program_is_in_the_context(context: Path) -> None:
    packages = {"jobs", "prune_engine", "prunery", "service", "worker"}
    assert {path.name for path in context.iterdir()} - {"LICENSE"} == packages | {
        "README.md",
        "constraints.txt",
        "deploy",
        "pyproject.toml",
    }
    assert [path.name for path in (context / "deploy").iterdir()] == ["sbom.sh"]


def test_the_wheel_holds_every_file_of_the_packages(context: Path, tmp_path: Path) -> None:
    """Templates, style sheets and scripts as well: an installed Prunery has nothing else to read."""
    isolated = [] if int(version("setuptools").split(".")[0]) < 77 else ["--no-build-isolation"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        *isolated,
        "-w",
        str(tmp_path),
        str(context),
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        str(path.relative_to(context))
        for package in ("jobs", "prune_engine", "prunery", "service", "worker")
        for path in (context / package).rglob("*")
        if path.is_file()
    }
    assert sorted(sources - inside) == []
