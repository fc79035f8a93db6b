"""The deployment's files, read: the Dockerfile's stages, the compose file's services, the settings' names."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import AliasChoices

from jobs.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile"
COMPOSE = ROOT / "docker-compose.yml"


@dataclass
class Stage:
    """A build stage: what it is made from, and its instructions in order."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str | None:
        """The argument of the last instruction of that name."""
        return next((text for name, text in reversed(self.instructions) if name == instruction), None)

    def environment(self) -> dict[str, str]:
        """What its ENV instructions set."""
        return {
            name: value
            for instruction, text in self.instructions
            if instruction == "ENV"
            for name, value in re.findall(r"(\w+)=(\S+)", text)
        }


def dockerfile_stages() -> dict[str, Stage]:
    """The stages by name. Reads the plain form of this project's file: no heredocs, no ONBUILD."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    stages: dict[str, Stage] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            current = stages[name] = Stage(base)
        elif stages:
            current.instructions.append((instruction, rest.strip()))
    return stages


def inherited(stages: dict[str, Stage], name: str, instruction: str) -> str | None:
    """What stage `name` has of `instruction`, its own or its bases'."""
    while name in stages:
        if (found := stages[name].last(instruction)) is not None:
            return found
        name = stages[name].base
    return None


def image_environment(target: str) -> dict[str, str]:
    """The environment that a container of `target` starts with."""
    stages = dockerfile_stages()
    names = []
    while target in stages:
        names.append(target)
        target = stages[target].base
    found: dict[str, str] = {}
    for name in reversed(names):
        found |= stages[name].environment()
    return found


def healthcheck_of_image() -> list[str]:
    """The command of the image's HEALTHCHECK."""
    text = inherited(dockerfile_stages(), "cpu", "HEALTHCHECK")
    assert text is not None
    command: list[str] = json.loads(text[text.index("CMD ") + 4 :])
    return command


def services() -> dict[str, dict[str, Any]]:
    """The compose file's services, merges and anchors resolved, variables left as they are."""
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return loaded


def filled_in(text: str, given: dict[str, str] | None = None) -> str:
    """`${NAME:-default}` replaced as compose does it."""
    values = given or {}
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: values.get(match[1]) or match[2], text)


def setting_names() -> set[str]:
    """Every name under which the environment can hold a setting."""
    names = set()
    for name, info in Settings.model_fields.items():
        names.add(f"PRUNERY_{name.upper()}")
        if isinstance(info.validation_alias, AliasChoices):
            names |= {str(choice) for choice in info.validation_alias.choices if str(choice).isupper()}
    return names


def settings_from(environment: dict[str, str], monkeypatch: Any) -> Settings:
    """The settings as a process with this environment reads them."""
    for name in setting_names():
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Settings(_env_file=None)
