"""Errors of the job store and the artifact store; they belong to the engine's one tree of errors.

::

    PruneError
    ├── JobsError                            jobs_failed
    │   ├── JobNotFoundError                 job_not_found
    │   ├── InvalidTransitionError           job_transition_invalid
    │   │   ├── NotStartableError            job_not_startable
    │   │   ├── NotRunningError              job_not_running
    │   │   ├── NotCancellableError          job_not_cancellable
    │   │   ├── NotDeletableError            job_not_deletable
    │   │   ├── NotPausableError             job_not_pausable
    │   │   ├── NotResumableError            job_not_resumable
    │   │   ├── NotRetriableError            job_not_retriable
    │   │   └── StaleAttemptError            job_attempt_stale
    │   ├── JobExistsError                   job_exists
    │   ├── ActiveJobsExceededError          active_jobs_exceeded
    │   ├── IdempotencyKeyInUseError                   idempotency_key_in_use
    │   ├── ArtifactNotFoundError            artifact_not_found
    │   ├── KeyNotFoundError                 key_not_found
    │   ├── WebhookNotFoundError             webhook_not_found
    │   ├── DeliveryNotFoundError            delivery_not_found
    │   ├── DeliveryBusyError                delivery_in_progress
    │   ├── OutgoingRefusedError             outgoing_refused
    │   ├── OutgoingFailedError              outgoing_failed
    │   ├── SandboxUnavailableError          sandbox_unavailable
    │   ├── StoreUnavailableError            store_unavailable
    │   └── ArtifactsUnavailableError        artifacts_unavailable
    │       └── DiskFullError                disk_nearly_full
    ├── InputError
    │   ├── TooLargeError                    file_too_large
    │   ├── HubDatasetsOffError              hub_datasets_off
    │   ├── WebhooksOffError                 webhooks_off
    │   ├── WebhookInvalidError              webhook_invalid
    │   └── EventIdError                     event_id_invalid
    └── ConfigurationError                   configuration_invalid
"""

from __future__ import annotations

from prune_engine.errors import InputError, PruneError


class JobsError(PruneError):
    """Something about a job or its files cannot be done."""

    code = "jobs_failed"


class JobNotFoundError(JobsError):
    """No job has this id: it never existed or was deleted."""

    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job '{job_id}'; GET /jobs lists those there are", param="job_id")


class JobExistsError(JobsError):
    """A job with this id is there already."""

    code = "job_exists"


class ActiveJobsExceededError(JobsError):
    """The job's owner has as many jobs that have not ended as its key allows."""

    code = "active_jobs_exceeded"


class IdempotencyKeyInUseError(JobsError):
    """Another request with the same Idempotency-Key is under way."""

    code = "idempotency_key_in_use"


class InvalidTransitionError(JobsError):
    """The job's state does not allow the move; the table of moves is `jobs.record.TRANSITIONS`."""

    code = "job_transition_invalid"


class NotStartableError(InvalidTransitionError):
    """Only a queued job can be started."""

    code = "job_not_startable"


class NotRunningError(InvalidTransitionError):
    """Only a job that a worker has can make progress or end."""

    code = "job_not_running"


class NotCancellableError(InvalidTransitionError):
    """The job has ended; there is nothing to cancel."""

    code = "job_not_cancellable"


class NotDeletableError(InvalidTransitionError):
    """Only an ended job can be deleted."""

    code = "job_not_deletable"


class NotPausableError(InvalidTransitionError):
    """Only a job that waits or runs can be paused."""

    code = "job_not_pausable"


class NotResumableError(InvalidTransitionError):
    """Only a paused job can be resumed."""

    code = "job_not_resumable"


class NotRetriableError(InvalidTransitionError):
    """Only a failed or cancelled job can be tried once more."""

    code = "job_not_retriable"


class StaleAttemptError(InvalidTransitionError):
    """The write comes from a run that is no longer the job's current one."""

    code = "job_attempt_stale"


class ArtifactNotFoundError(JobsError):
    """The artifact store has no such file."""

    code = "artifact_not_found"


class KeyNotFoundError(JobsError):
    """No API key has this id."""

    code = "key_not_found"
    exit_status = 2


class WebhookNotFoundError(JobsError):
    """The job was sent without a webhook."""

    code = "webhook_not_found"


class DeliveryNotFoundError(JobsError):
    """The job's webhook has no such message."""

    code = "delivery_not_found"


class DeliveryBusyError(JobsError):
    """The message is being sent at this moment."""

    code = "delivery_in_progress"


class OutgoingRefusedError(JobsError):
    """The service makes no request to this address: not https, not allowed, or not of the open internet."""

    code = "outgoing_refused"


class OutgoingFailedError(JobsError):
    """A request of the service's own got no answer: no connection, no valid certificate, or no time left."""

    code = "outgoing_failed"


class StoreUnavailableError(JobsError):
    """The job store (Redis or Valkey) does not answer."""

    code = "store_unavailable"


class ArtifactsUnavailableError(JobsError):
    """The artifact store does not answer, or its disk is full."""

    code = "artifacts_unavailable"


class DiskFullError(ArtifactsUnavailableError):
    """The disk has no room but the reserve that is kept for jobs that run."""

    code = "disk_nearly_full"


class SandboxUnavailableError(JobsError):
    """There is no sandbox to run a stranger's model in, or none that gives what the job needs."""

    code = "sandbox_unavailable"


class TooLargeError(InputError):
    """A file is larger than the settings allow."""

    code = "file_too_large"


class HubDatasetsOffError(InputError):
    """The settings let no job name data sets of the Hugging Face hub that the catalogue does not have."""

    code = "hub_datasets_off"
    default_param = "dataset"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name[:100]} is not fetched: of the Hugging Face hub this service has what GET /datasets "
            "lists, and no more. Send the data as a file, or ask whoever runs it (PRUNERY_HUB_DATASETS)"
        )


class WebhooksOffError(InputError):
    """The settings let no job have a webhook."""

    code = "webhooks_off"
    default_param = "webhook"


class WebhookInvalidError(InputError):
    """The secret or the events of a webhook are none, or came without its address."""

    code = "webhook_invalid"
    default_param = "webhook"


class ConfigurationError(PruneError):
    """The settings contradict each other or lack something."""

    code = "configuration_invalid"
    exit_status = 2


class EventIdError(InputError):
    """An event id (`after`, `Last-Event-ID`) is none that the service gave out."""

    code = "event_id_invalid"
