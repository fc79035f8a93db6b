"""Every setting of Prunery: from the environment (`PRUNERY_<FIELD>`), `.env`, or the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobs.errors import ConfigurationError

GIB = 1024**3
Bytes = Annotated[int, Field(gt=0)]


def _named(field: str) -> AliasChoices:
    """Accept a plain name that everybody knows beside the `PRUNERY_` one."""
    return AliasChoices(f"PRUNERY_{field}", field, field.lower())


class Settings(BaseSettings):
    """What can be set. Frozen; read once at start."""

    model_config = SettingsConfigDict(
        env_prefix="PRUNERY_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        validate_default=True,
    )

    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8000, ge=0, le=65_535, description="Port that the API listens on; 0: any free one.")
    auth: Literal["auto", "required", "off"] = Field(
        "auto",
        description="Whether an API key is needed. `auto`: as soon as one was made; and always where the API "
        "listens on more than the loopback address, where it does not start without one. `off`: never.",
    )
    bootstrap_key_file: Path | None = Field(
        None,
        description="File with one key, which is added at the start with the scope `admin`: the first key of "
        "a service where no command can be run.",
    )
    allowed_hosts: tuple[str, ...] | None = Field(
        None,
        description='Names that the API answers to, as JSON: `["prunery.example.org"]`; `"*"`: any. Unset: '
        "without keys `localhost` and IP addresses, with keys any.",
    )
    trusted_proxies: tuple[str, ...] | None = Field(
        None,
        description="Addresses or networks of proxies whose `X-Forwarded-For` and `-Proto` are believed, as "
        "JSON. Unset: this machine's loopback addresses.",
    )
    tls_cert: Path | None = Field(
        None, description="Certificate chain (PEM) that the API serves HTTPS with. Unset: plain HTTP."
    )
    tls_key: Path | None = Field(None, description="Private key (PEM) of `PRUNERY_TLS_CERT`.")
    key_requests_per_minute: int = Field(
        600,
        ge=0,
        description="Requests that an API key may make in a minute, unless it has its own limit; 0: any.",
    )
    key_active_jobs: int = Field(
        100, ge=0, description="Jobs of an API key that have not ended, as above; 0: any number."
    )
    key_stored_bytes: int = Field(
        100 * GIB, ge=0, description="Bytes of the files of an API key's jobs, as above; 0: any number."
    )
    data_dir: Path = Field(
        Path("data"),
        description="Folder of the private store, the artifacts (unless `ARTIFACTS_URL` is set), "
        "the data set cache and the workers' scratch space.",
    )
    workers: int = Field(
        1, ge=0, le=64, description="Workers that `prunery up` starts; each runs one job at a time."
    )
    redis_url: str | None = Field(
        None,
        validation_alias=_named("REDIS_URL"),
        description="Redis or Valkey to use: `redis://`, `rediss://` (its certificate is checked; an "
        "authority of your own with `?ssl_ca_certs=/ca.pem`) or `unix://`. "
        "Unset: `prunery up` starts a private server.",
    )
    redis_prefix: str = Field(
        "prunery:", description="What every key in Redis starts with, the queue's own keys included."
    )
    artifacts_url: str | None = Field(
        None,
        validation_alias=_named("ARTIFACTS_URL"),
        description="Where uploads and results are kept: `s3://bucket/path`, `gs://bucket/path`, "
        "`az://container/path`, `file:///...`. Unset: `artifacts` in the data folder.",
    )
    presign: Literal["auto", "off"] = Field(
        "auto",
        description="`auto`: who downloads a model is sent on to the bucket in the cloud, by an address that "
        "is signed for a while. `off`: every file goes through the API.",
    )
    presign_endpoint: str | None = Field(
        None,
        description="Address of the object store as clients reach it. A store at an address of its own "
        "(`AWS_ENDPOINT_URL`) is signed for only with this.",
    )
    presign_seconds: int = Field(
        300, ge=1, le=604_800, description="How long a signed address is good for to begin a download."
    )
    datasets_dir: Path | None = Field(
        None,
        validation_alias=_named("DATASETS_DIR"),
        description="Folder with named data sets as `<name>.npz`, looked at before any download.",
    )
    max_model_bytes: Bytes = Field(4 * GIB, description="Largest model file that is accepted.")
    max_data_bytes: Bytes = Field(16 * GIB, description="Largest data file that is accepted.")
    max_tokenizer_bytes: Bytes = Field(64 * 1024**2, description="Largest tokenizer.json that is accepted.")
    allow_torchscript: bool = Field(
        True,
        description="Whether TorchScript archives are accepted. They are code: looked through before they "
        "are loaded, and loaded in the child only; `false` refuses them at the upload.",
    )
    queue: str = Field(
        "prunery.default", description="Queue of the jobs that any worker may take (`device` auto or cpu)."
    )
    gpu_queue: str = Field("prunery.gpu", description="Queue of the jobs that ask for `device=cuda`.")
    worker_queues: tuple[str, ...] | None = Field(
        None, description='Queues that this worker serves, as JSON: `["prunery.gpu"]`. Unset: both.'
    )
    scratch_dir: Path | None = Field(
        None,
        description="Local folder for the workers' scratch space. Unset: `scratch` in the data folder.",
    )
    sandbox: Literal["auto", "bubblewrap", "landlock", "off"] = Field(
        "auto",
        validation_alias=_named("SANDBOX"),
        description="Where models are run: `bubblewrap` (namespaces), `landlock` (without any privilege), or "
        "the first of them that works (`auto`); without any no job is run. `off`: with our own rights.",
    )
    job_memory_bytes: Bytes | None = Field(
        None,
        description="Memory that a job may take, all its processes together. Unset: nine tenths of the "
        "machine's or the container's.",
    )
    job_disk_bytes: Bytes = Field(
        64 * GIB, description="What a job may write into its scratch folder, besides what was sent."
    )
    job_processes: int | None = Field(
        None,
        ge=16,
        description="Processes and threads that a job, or looking through a model, may have at a time. "
        "Unset: 512, and 16 more for every processor.",
    )
    child_command: tuple[str, ...] | None = Field(
        None,
        description="Command that runs a job's folder, as JSON; the folder is appended. "
        "Unset: this Python with `-m prune_engine run`.",
    )
    fetch_command: tuple[str, ...] | None = Field(
        None,
        description="Command that fetches a named data set, as JSON; the name and folders are appended. "
        "Unset: this Python with `-m prune_engine fetch`.",
    )
    inspections: int = Field(
        2, ge=1, le=64, description="Models that the API looks through at the same time, each in a process."
    )
    inspect_seconds: float = Field(
        60.0, gt=0, description="Longest time that a model may be looked through; processor time too."
    )
    inspect_memory_bytes: Bytes = Field(8 * GIB, description="Memory that looking through a model may take.")
    inspect_command: tuple[str, ...] | None = Field(
        None,
        description="Command that looks through a folder's model, as JSON; the folder is appended. "
        "Unset: this Python with `-m prune_engine inspect`.",
    )
    child_threads: int | None = Field(
        None,
        ge=1,
        description="Threads of the child's arithmetic (OMP_NUM_THREADS). Unset: one for each processor "
        "that may be used (affinity and the container's quota count); where `prunery up` starts several "
        "workers, each one's share of them.",
    )
    progress_interval_seconds: float = Field(
        0.5, ge=0, description="Least time between two progress events of a job that are stored."
    )
    heartbeat_seconds: float = Field(
        5.0, gt=0, description="How often a worker says that it lives; after four missed beats it is dead."
    )
    lease_seconds: float = Field(
        30.0,
        gt=0,
        description="How long a worker has a job without renewing its lease; then another goes on with it.",
    )
    lease_renew_seconds: float = Field(
        10.0, gt=0, description="How often a worker renews its lease; at most half of `LEASE_SECONDS`."
    )
    max_attempts: int = Field(
        3, ge=1, description="Attempts at a job that may be lost or crash before it fails."
    )
    checkpoint_seconds: float = Field(
        60.0, gt=0, description="Least time between two checkpoints of a training."
    )
    stop_grace_seconds: float = Field(
        10.0,
        gt=0,
        description="Seconds that a child has to write a checkpoint when its worker stops, or for a pause.",
    )
    silence_seconds: float = Field(
        21_600.0,
        gt=0,
        description="Seconds of silence after which a child counts as stuck and is ended like a crashed one.",
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="Logs as `json` or as `text` for people; `auto`: text on a terminal, else JSON."
    )
    otlp_endpoint: str | None = Field(
        None,
        validation_alias=AliasChoices("PRUNERY_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="OpenTelemetry collector that traces are sent to by HTTP: `http://collector:4318`. "
        "Needs `prunery[otel]`. Unset: no traces.",
    )
    events_per_job: int = Field(
        2_000, ge=10, description="Events kept per job; above it older progress events are thinned out."
    )
    store_patience_seconds: float = Field(
        120.0, ge=0, description="How long a worker waits for the store, or the artifacts, to come back."
    )
    min_free_bytes: int = Field(
        GIB,
        ge=0,
        description="Bytes of a disk that new uploads leave free, for the jobs that run; and that a worker's "
        "scratch disk has left when it takes a job.",
    )
    keep_days: float | None = Field(
        None,
        gt=0,
        description="Days that a job is kept after it has ended, with its files. Unset: until it is deleted.",
    )
    keep_failed_days: float | None = Field(
        None, gt=0, description="The same for jobs that failed or were cancelled. Unset: as `keep_days`."
    )
    stray_hours: float = Field(
        24.0,
        gt=0,
        description="Hours after which a file that no record points to is removed; longer than any upload "
        "takes.",
    )
    clean_seconds: float = Field(
        3600.0, gt=0, description="How often the workers remove what has expired or was left behind."
    )
    hub_datasets: bool = Field(
        False,
        description="Whether a job may name any data set of the Hugging Face hub, as `hf:owner/name`. Those "
        "of the catalogue are fetched either way.",
    )
    webhooks: bool = Field(
        False, description="Whether a job may have a webhook, which the workers then send messages to."
    )
    webhook_retry_seconds: tuple[float, ...] = Field(
        (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400),
        min_length=1,
        max_length=50,
        description="Seconds before each attempt to deliver a message of a webhook, as JSON. Every wait is "
        "made up to a fifth longer by chance.",
    )
    outgoing_hosts: tuple[str, ...] | None = Field(
        None,
        description="Hosts that the service may send requests of its own to (webhooks), as JSON: "
        '`["hooks.example.com", "*.example.org"]`. Unset: any whose addresses belong to the open internet.',
    )
    outgoing_networks: tuple[str, ...] = Field(
        (),
        description="Networks that such requests may reach although they do not belong to the open internet, "
        'as JSON: `["10.20.0.0/16"]`.',
    )
    outgoing_plain_hosts: tuple[str, ...] = Field(
        (), description="Hosts that such requests may be sent to by http, without TLS, as JSON."
    )
    outgoing_ca_file: Path | None = Field(
        None, description="File with certificates (PEM) that such requests trust beside the public ones."
    )
    outgoing_proxy: str | None = Field(
        None,
        description="Proxy for such requests: `http://proxy:3128`. It resolves the names, so it has to keep "
        "them out of the inner network. Unset: none, whatever the environment says.",
    )
    outgoing_seconds: float = Field(
        10.0, gt=0, le=60, description="Longest time that such a request may take, all in all."
    )

    @model_validator(mode="after")
    def _leases_are_renewed_in_time(self) -> Settings:
        if self.lease_renew_seconds * 2 > self.lease_seconds:
            raise ValueError(
                "lease_renew_seconds: must be at most half of lease_seconds, or a late answer loses the lease"
            )
        return self

    @field_validator(
        "data_dir",
        "datasets_dir",
        "scratch_dir",
        "bootstrap_key_file",
        "tls_cert",
        "tls_key",
        "outgoing_ca_file",
    )
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        """Children run in folders of their own, so a relative path would change its meaning."""
        return path.expanduser().absolute() if path is not None else None

    @model_validator(mode="after")
    def _whole_tls(self) -> Self:
        """A certificate without its key (or the other way round) would mean plain HTTP."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("PRUNERY_TLS_CERT and PRUNERY_TLS_KEY must be set together")
        return self

    @field_validator("outgoing_proxy")
    @classmethod
    def _a_proxy(cls, url: str | None) -> str | None:
        if url is not None and not re.match(r"https?://[^/]", url):
            raise ValueError("should be the address of an HTTP proxy, http://proxy:3128")
        return url

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("should begin with redis://, rediss:// or unix://")
        return url

    @model_validator(mode="after")
    def _known_queues(self) -> Self:
        """A worker that serves a queue nobody rings in would live and take nothing."""
        known = (self.queue, self.gpu_queue)
        if self.worker_queues is not None and not set(self.worker_queues) <= set(known):
            raise ValueError(f"PRUNERY_WORKER_QUEUES can only name {known[0]!r} and {known[1]!r}")
        return self

    def environment(self) -> dict[str, str]:
        """What to put into a process's environment so that it has these settings.

        What is None is left out: it was not in our own environment either.
        """
        said = self.model_dump(mode="json", exclude_none=True)
        return {
            f"PRUNERY_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in said.items()
        }

    @property
    def artifacts(self) -> str:
        """URL of the artifact store, or the path of a local folder."""
        return self.artifacts_url or str(self.data_dir / "artifacts")

    @property
    def cache_dir(self) -> Path:
        """Where fetched data sets are kept."""
        return self.data_dir / "datasets"

    @property
    def scratch(self) -> Path:
        """Where the workers' scratch folders are made."""
        return self.scratch_dir or self.data_dir / "scratch"

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that this worker serves."""
        return self.worker_queues or (self.queue, self.gpu_queue)

    def require_redis_url(self) -> str:
        """The store's URL.

        Raises:
            ConfigurationError: there is none.
        """
        if not self.redis_url:
            raise ConfigurationError(
                "REDIS_URL is not set; set it (redis://host:6379/0), or run `prunery up`, "
                "which starts a private server",
                param="redis_url",
            )
        return self.redis_url
