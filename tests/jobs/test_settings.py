from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from jobs.errors import ConfigurationError
from jobs.settings import Settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("REDIS_URL", "ARTIFACTS_URL", "DATASETS_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"PRUNERY_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_settings_come_from_the_environment_with_and_without_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNERY_PORT", "9000")
    monkeypatch.setenv("REDIS_URL", "redis://one/0")
    assert (Settings().port, Settings().redis_url) == (9000, "redis://one/0")
    monkeypatch.setenv("PRUNERY_REDIS_URL", "redis://two/0")
    assert Settings().redis_url == "redis://two/0"


def test_a_dotenv_file_is_read_and_the_environment_goes_before_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("PRUNERY_WORKERS=3\nREDIS_URL=redis://file/0\nUNRELATED=1\n")
    assert (Settings().workers, Settings().redis_url) == (3, "redis://file/0")
    monkeypatch.setenv("REDIS_URL", "redis://environment/0")
    assert Settings().redis_url == "redis://environment/0"


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTS_URL", "")
    monkeypatch.setenv("PRUNERY_MAX_MODEL_BYTES", "")
    assert Settings().artifacts_url is None


def test_settings_travel_whole_through_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = Settings(
        port=1,
        redis_url="redis://one/0",
        datasets_dir=Path("sets"),
        gpu_queue="b",
        worker_queues=("b",),
        child_command=("run", "a b"),
        stop_grace_seconds=0.25,
    )
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir("/")
    assert Settings() == given


def test_a_queue_that_nobody_rings_in_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNERY_WORKER_QUEUES", '["prunery.defualt"]')
    with pytest.raises(ValueError, match=r"'prunery\.default' and 'prunery\.gpu'"):
        Settings()
    monkeypatch.setenv("PRUNERY_WORKER_QUEUES", '["prunery.gpu", "prunery.default"]')
    assert Settings().queues == ("prunery.gpu", "prunery.default")


def test_a_default_that_was_chosen_travels_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNERY_PORT", "9000")
    for name, value in Settings(port=8000).environment().items():
        monkeypatch.setenv(name, value)
    assert Settings().port == 8000


def test_paths_are_absolute_and_the_folders_follow_the_data_folder(tmp_path: Path) -> None:
    settings = Settings(data_dir=Path("here"))
    assert settings.data_dir == tmp_path / "here"
    assert settings.artifacts == str(tmp_path / "here" / "artifacts")
    assert settings.scratch == tmp_path / "here" / "scratch"
    assert settings.cache_dir == tmp_path / "here" / "datasets"


def test_a_missing_store_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="prunery up"):
        Settings().require_redis_url()


@pytest.mark.parametrize("wrong", [{"port": 70_000}, {"workers": -1}, {"max_model_bytes": 0}])
def test_nonsense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)
