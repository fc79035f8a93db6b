"""The settings, read; what cannot be used is refused by the name of its variable."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, ValidationError
from pydantic_settings import SettingsError

from jobs.errors import ConfigurationError
from jobs.settings import Settings


def read_settings(**given: Any) -> Settings:
    """The settings of the environment and of `.env`; `given` win over both.

    Raises:
        ConfigurationError: a value cannot be used; says of which variable.
    """
    try:
        return Settings(**given)
    except SettingsError as error:  # a value that should be JSON and cannot be read as that
        field = next((name for name in Settings.model_fields if f'"{name}"' in str(error)), "")
        raise ConfigurationError(f"{_variable(field)}: {error}", param=field or None) from None
    except ValidationError as error:
        problems = [_problem(item) for item in error.errors(include_url=False)]
        raise ConfigurationError("; ".join(problems)) from None


def _problem(item: Any) -> str:
    said = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return said
    if item["type"] == "tuple_type":
        said = 'should be a list in JSON, as ["a", "b"]'
    return f"{_variable(str(item['loc'][0]))}: {said} (got {str(item['input'])[:80]!r})"


def _variable(given: str) -> str:
    """The environment variable of a field or one of its other names, as everybody knows it."""
    for field, info in Settings.model_fields.items():
        if isinstance(info.validation_alias, AliasChoices) and given in (
            field,
            *info.validation_alias.choices,
        ):
            return str(info.validation_alias.choices[1])
    return f"PRUNERY_{given.upper()}"
