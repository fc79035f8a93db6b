"""What the project is made of: listed for the image, and compared with advisories where they are reached."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.files import DOCKERFILE, ROOT

AUDIT = runpy.run_path(str(ROOT / "deploy" / "audit.py"))
judged = AUDIT["judged"]


def audit(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": list(packages), "fixes": []})


@pytest.mark.parametrize(
    ("output", "errors", "status", "says"),
    [
        (audit({"name": "a", "version": "1", "vulns": []}), "", 0, "1 packages audited"),
        (
            audit({"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}),
            "",
            1,
            "a 1: CVE-1, fixed in 2",
        ),
        (audit({"name": "a", "skip_reason": "not found on PyPI"}), "", 3, "NOT audited"),
        ("", "ConnectionError: no route", 3, "NOT audited: .*no route"),
    ],
)
def test_an_audit_that_did_not_happen_is_not_said_to_be_clean(
    output: str, errors: str, status: int, says: str
) -> None:
    found, said = judged(output, errors)
    assert found == status
    assert re.search(says, said)


def test_the_bill_of_materials_has_every_package_with_its_version(tmp_path: Path) -> None:
    """Of an environment with two packages; of the whole one it takes long."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "small"], check=True)
    packages = next((tmp_path / "small").glob("lib/python3*/site-packages"))
    for name in ("packaging", "click"):
        held = distribution(name)
        source = Path(str(held.locate_file(f"{name}-{held.version}.dist-info")))
        shutil.copytree(source, packages / source.name)
    output = tmp_path / "sbom.json"
    script, program = ROOT / "deploy" / "sbom.sh", Path(sys.executable).with_name("cyclonedx-py")
    python = tmp_path / "small" / "bin" / "python"
    subprocess.run([script, python, output, program], check=True, capture_output=True)
    content = json.loads(output.read_text())
    assert (content["bomFormat"], content["specVersion"]) == ("CycloneDX", "1.6")
    listed = {component["name"].lower(): component["version"] for component in content["components"]}
    assert listed == {"packaging": version("packaging"), "click": version("click")}


def test_the_image_carries_its_bill_of_materials() -> None:
    text = DOCKERFILE.read_text()
    assert "sbom.sh" in text
    assert "COPY --from=sbom" in text


def test_every_exception_from_bandit_s_rules_has_its_reason() -> None:
    without = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in ("prune_engine", "jobs", "service", "worker", "prunery", "deploy")
        for path in (ROOT / package).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"# noqa:.*\bS\d+\W*$", line)
    ]
    assert without == []
