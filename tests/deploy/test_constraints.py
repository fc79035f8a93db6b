import tomllib

from packaging.requirements import Requirement
from packaging.version import Version

from tests.deploy.files import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = [
    Requirement(text)
    for text in [
        *PROJECT["dependencies"],
        *(r for extra in PROJECT["optional-dependencies"].values() for r in extra),
    ]
]
PINNED = {
    line.split("==")[0].lower().replace("_", "-"): Version(line.split("==")[1].split(";")[0].strip())
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if "==" in line and not line.startswith("#")
}


def test_every_requirement_is_pinned() -> None:
    names = [wanted.name.lower().replace("_", "-") for wanted in WANTED]
    assert [name for name in names if name not in PINNED] == []


def test_every_pin_is_what_the_project_asks_for() -> None:
    """Else nothing can be installed at all."""
    outside = [
        f"{wanted} is pinned to {pin}"
        for wanted in WANTED
        if (pin := PINNED.get(wanted.name.lower().replace("_", "-"))) is not None
        and not wanted.specifier.contains(pin, prereleases=True)
    ]
    assert outside == []


def test_no_pin_belongs_to_one_index_only() -> None:
    """A local version such as 2.13.0+cpu is on no other index than the one it came from."""
    assert [f"{name}=={pin}" for name, pin in PINNED.items() if pin.local] == []
