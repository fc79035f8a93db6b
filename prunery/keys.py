"""`prunery keys`: make, list and revoke API keys, in the store that the service uses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prune_engine.errors import PruneError

if TYPE_CHECKING:
    from jobs.keys import ApiKey, KeyStore

_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}

keys = typer.Typer(name="keys", no_args_is_help=True, help="Make, list and revoke API keys.")
DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the `prunery up` that the keys are for; else PRUNERY_DATA_DIR.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(keys)


@keys.command("create")
def create(
    name: Annotated[str, typer.Option(help="What or whom the key is for.")],
    scope: Annotated[
        list[str],
        typer.Option(help="jobs:read, jobs:write (includes reading), metrics, admin; may be repeated."),
    ],
    expires: Annotated[
        str | None, typer.Option(help="When it ends: 12h, 90d, 8w, or a date as 2027-01-31.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=0, help="Its own limit; 0: none. Default: the setting.")
    ] = None,
    active_jobs: Annotated[
        int | None, typer.Option(min=0, help="Jobs that have not ended. As above.")
    ] = None,
    stored_bytes: Annotated[
        int | None, typer.Option(min=0, help="Bytes of its jobs' files. As above.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key and print it. It is shown this once: only a hash of it is kept."""

    def run(store: KeyStore) -> None:
        from jobs.keys import Limits

        limits = Limits(
            requests_per_minute=requests_per_minute, active_jobs=active_jobs, stored_bytes=stored_bytes
        )
        key, token = store.create(name, _scopes(scope), expires_at=_end(expires), limits=limits)
        typer.echo(f"key {key.id} for {key.name}, {_said(key)}; it is not shown again:", err=True)
        typer.echo(str(token))

    _with_keys(data_dir, run)


@keys.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    data_dir: DataDir = None,
) -> None:
    """List every key that was made: what it may do, its state, when it was last used."""

    def run(store: KeyStore) -> None:
        found = store.all()
        if as_json:
            typer.echo(json.dumps([_view(key, used) for key, used in found], indent=2))
        elif not found:
            typer.echo("no key was made yet: prunery keys create --name me --scope jobs:write", err=True)
        else:
            _show(found)

    _with_keys(data_dir, run)


@keys.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `list` shows it.")],
    data_dir: DataDir = None,
) -> None:
    """End a key at once. Its jobs stay."""

    def run(store: KeyStore) -> None:
        key = store.revoke(key_id)
        typer.echo(f"revoked {key.id} ({key.name})")

    _with_keys(data_dir, run)


def _with_keys(data_dir: Path | None, run: Callable[[KeyStore], None]) -> None:
    """Run with the keys of the service's store, or say why not."""
    from jobs.keys import KeyStore
    from jobs.reading_settings import read_settings
    from prunery.data_folder import with_store

    given: dict[str, Any] = {} if data_dir is None else {"data_dir": data_dir}
    try:
        settings = read_settings(**given)
        with with_store(settings) as reachable:
            store = KeyStore(reachable)
            try:
                run(store)
            finally:
                store.close()
    except PruneError as error:
        typer.echo(f"error: {error.message} [{error.code}]", err=True)
        raise typer.Exit(error.exit_status) from None


def _scopes(given: list[str]) -> list[Any]:
    from jobs.keys import Scope

    known = {scope.value: scope for scope in Scope}
    chosen = [word.strip() for words in given for word in words.split(",")]
    for word in chosen:
        if word not in known:
            raise typer.BadParameter(
                f"'{word}' is no scope; there are {', '.join(known)}", param_hint="--scope"
            )
    return [known[word] for word in chosen]


def _end(text: str | None) -> datetime | None:
    """The moment that `--expires` means."""
    if text is None:
        return None
    if found := re.fullmatch(r"(\d{1,5})([mhdw])", text.strip()):
        return datetime.now(UTC) + timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    try:
        end = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is no time; write 12h, 90d, 8w, or a date as 2027-01-31", param_hint="--expires"
        ) from None
    end = end if end.tzinfo else end.replace(tzinfo=UTC)
    if end <= datetime.now(UTC):
        raise typer.BadParameter(f"{text} is over", param_hint="--expires")
    return end


def _said(key: ApiKey) -> str:
    end = f"until {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "without an end"
    return f"{', '.join(key.scopes)}, {end}"


def _view(key: ApiKey, used: datetime | None) -> dict[str, Any]:
    shown = key.model_dump(mode="json", exclude={"secret_sha256"})
    return {**shown, "state": key.state(), "last_used_at": used.isoformat() if used else None}


def _show(found: list[tuple[ApiKey, datetime | None]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "name", "scopes", "state", "made", "ends", "last used", "limits", box=None)
    for key, used in found:
        own = {name: value for name, value in key.limits.model_dump().items() if value is not None}
        table.add_row(
            key.id,
            key.name,
            " ".join(key.scopes),
            key.state(),
            f"{key.created_at:%Y-%m-%d}",
            f"{key.expires_at:%Y-%m-%d}" if key.expires_at else "never",
            f"{used:%Y-%m-%d %H:%M}" if used else "never",
            " ".join(f"{name}={value}" for name, value in own.items()),
        )
    Console(width=None if Console().is_terminal else 200, markup=False).print(table)
