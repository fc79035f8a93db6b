import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jobs.settings import Settings
from tests.deploy.files import (
    COMPOSE,
    ROOT,
    dockerfile_stages,
    filled_in,
    image_environment,
    services,
    setting_names,
    settings_from,
)

SERVICES = services()
OURS = [name for name in SERVICES if name != "valkey"]
WORKERS = ["worker", "worker-gpu"]
ours = pytest.mark.parametrize("name", OURS)
every = pytest.mark.parametrize("name", SERVICES)


def environment_of(name: str) -> dict[str, str]:
    """What a process of the service finds: the image's environment under the compose file's."""
    service = SERVICES[name]
    return image_environment(service["build"]["target"]) | {
        key: filled_in(str(value)) for key, value in service["environment"].items()
    }


def settings_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return settings_from(environment_of(name), monkeypatch)


def mounts(name: str) -> dict[str, str]:
    """Target to source."""
    found = {}
    for entry in SERVICES[name]["volumes"]:
        source, target, *_ = filled_in(entry).split(":")
        found[target] = source
    return found


def test_the_file_follows_the_compose_specification() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    command = [checker, "--builtin-schema", "vendor.compose-spec", COMPOSE]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_files_can_be_in_a_bucket_instead() -> None:
    path = ROOT / "deploy/compose.s3.yml"
    checker = Path(sys.executable).with_name("check-jsonschema")
    command = [checker, "--builtin-schema", "vendor.compose-spec", path]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    with_bucket = yaml.safe_load(path.read_text())["services"]
    assert set(with_bucket) == set(OURS)
    for service in with_bucket.values():
        names = {entry.partition("=")[0] for entry in service["environment"]}
        assert {name for name in names if not name.startswith("AWS_")} <= setting_names()
        assert "ARTIFACTS_URL" in names


def test_the_services_are_the_house_s_rooms() -> None:
    assert set(SERVICES) == {"api", "worker", "worker-gpu", "valkey"}
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    assert not any(SERVICES[name].get("profiles") for name in SERVICES if name != "worker-gpu")


@ours
def test_every_variable_is_a_setting(name: str) -> None:
    assert set(SERVICES[name]["environment"]) <= setting_names()


def test_every_variable_that_is_asked_for_is_explained_at_the_top() -> None:
    text = COMPOSE.read_text()
    head = text[: text.index("\nname:")]
    asked = set(re.findall(r"\$\{(\w+)", text))
    assert asked
    assert [variable for variable in asked if variable not in head] == []


def test_the_port_is_the_settings_and_published_to_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of("api", monkeypatch)
    assert settings.host == "0.0.0.0"
    published = SERVICES["api"]["ports"]
    assert [filled_in(port) for port in published] == [f"127.0.0.1:8000:{settings.port}"]
    assert filled_in(published[0], {"PRUNERY_PORT": "9000"}) == f"127.0.0.1:9000:{settings.port}"
    # That asks the settings' own port.
    assert SERVICES["api"]["healthcheck"]["test"] == ["CMD", "python", "-m", "service.health"]
    assert not any("ports" in SERVICES[name] for name in SERVICES if name != "api")


@ours
def test_what_is_written_lies_on_a_volume(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(name, monkeypatch)
    assert settings.artifacts_url is None
    assert mounts(name)[str(settings.data_dir)] == "data"
    assert mounts(name)[str(settings.datasets_dir)] == "./datasets"
    if name in WORKERS:
        assert mounts(name)[str(settings.scratch)] == "scratch"
    named = {source for source in mounts(name).values() if not source.startswith(".")}
    assert named <= set(yaml.safe_load(COMPOSE.read_text())["volumes"])


@ours
def test_the_store_is_the_valkey_service(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of(name, monkeypatch).redis_url == "redis://valkey:6379/0"
    assert SERVICES[name]["depends_on"] == {"valkey": {"condition": "service_healthy"}}


def test_jobs_for_a_gpu_are_left_to_the_worker_that_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Settings(_env_file=None)
    assert settings_of("worker", monkeypatch).queues == (defaults.queue,)
    assert settings_of("worker-gpu", monkeypatch).queues == (defaults.gpu_queue, defaults.queue)
    (device,) = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


@ours
def test_the_image_is_a_target_of_the_dockerfile(name: str) -> None:
    build = SERVICES[name]["build"]
    stages = dockerfile_stages()
    assert build["target"] in stages
    assert SERVICES[name]["image"] == f"prunery:{build['target']}"
    asked = {
        text.split("=")[0] for stage in stages.values() for kind, text in stage.instructions if kind == "ARG"
    }
    assert set(build.get("args", {})) <= asked
    assert (build["target"] == "cuda") == ("gpu" in SERVICES[name].get("profiles", []))


@every
def test_nothing_runs_as_root_or_writes_outside_its_volumes(name: str) -> None:
    service = SERVICES[name]
    assert int(service["user"].split(":")[0]) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@every
def test_every_service_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)


@ours
def test_the_command_s_module_exists(name: str) -> None:
    python, flag, module = SERVICES[name]["command"]
    assert (python, flag) == ("python", "-m")
    found = importlib.util.find_spec(module)
    assert found is not None
    if found.submodule_search_locations:
        assert importlib.util.find_spec(f"{module}.__main__") is not None
