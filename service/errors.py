"""Every refusal that is the HTTP service's own, drawn as one tree.

::

    PruneError
    └── ServiceError
        ├── RequestError                  the request cannot be understood
        │   ├── MultipartRequiredError    multipart_required          415
        │   ├── MultipartInvalidError     multipart_invalid           400
        │   ├── ParameterInvalidError     parameter_invalid           422
        │   ├── IdempotencyKeyInvalidError idempotency_key_invalid    400
        │   ├── IdempotencyKeyReusedError idempotency_key_reused      422
        │   └── ClientGoneError           client_gone                 499 (nobody is left to read it)
        ├── AccessError                   the caller may not ask for this
        │   ├── KeyRequiredError          key_required                401
        │   ├── KeyUnknownError           key_unknown                 401
        │   ├── KeyExpiredError           key_expired                 401
        │   ├── KeyRevokedError           key_revoked                 401
        │   ├── ScopeMissingError         scope_missing               403
        │   ├── HostNotAllowedError       host_not_allowed            403
        │   └── OriginNotAllowedError     origin_not_allowed          403
        ├── LimitError                    the key has used up what it may use
        │   ├── RequestsExceededError     requests_exceeded           429
        │   └── StorageExceededError      storage_exceeded            429
        ├── FormError                     the form's fields are not what is asked for
        │   ├── FieldMissingError         field_missing               422
        │   ├── FieldUnknownError         field_unknown               422
        │   ├── FieldRepeatedError        field_repeated              422
        │   ├── FieldConflictError        field_conflict              422
        │   ├── FieldInvalidError         field_invalid               422
        │   └── FieldTooLargeError        field_too_large             413
        ├── RouteNotFoundError            route_not_found             404
        ├── MethodNotAllowedError         method_not_allowed          405
        ├── RangeNotSatisfiableError      range_not_satisfiable       416
        ├── ResultNotReadyError           result_not_ready            409
        ├── InspectionError               inspection_failed           500
        │   ├── InspectionBusyError       inspection_busy             503
        │   ├── InspectionTimeoutError    inspection_timeout          422
        │   └── InspectionCrashedError    inspection_crashed          422
        └── InternalError                 internal_error              500

The errors of `prune_engine.errors` and `jobs.errors` keep their own codes; `service.problems` says with which
HTTP status each of them is answered. A code never changes its meaning: `docs/errors.md` lists them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from prune_engine.errors import PruneError


class ServiceError(PruneError):
    """The root: a message a person can act on, a stable `code`, an HTTP status, the parameter to blame.

    Args:
        message: what was wrong, where, and what to do about it.
        param: the request's parameter to blame; None where there is none.
        headers: HTTP headers that belong to the answer, such as `Allow` or `Content-Range`.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "The service failed"

    def __init__(
        self, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.headers = dict(headers or {})


class RequestError(ServiceError):
    """The request cannot be understood."""

    code, status, title = "request_invalid", 400, "The request cannot be understood"


class MultipartRequiredError(RequestError):
    """The body is not multipart/form-data."""

    code, status, title = "multipart_required", 415, "The body must be multipart/form-data"


class MultipartInvalidError(RequestError):
    """The multipart body is malformed, ends early or has too many parts."""

    code, status, title = "multipart_invalid", 400, "The multipart body cannot be read"


class ParameterInvalidError(RequestError):
    """A path, query or header parameter has a value that is not allowed."""

    code, status, title = "parameter_invalid", 422, "A parameter has a value that is not allowed"


class IdempotencyKeyInvalidError(RequestError):
    """The Idempotency-Key is empty, too long, or not of visible ASCII characters."""

    code, status, title = "idempotency_key_invalid", 400, "The Idempotency-Key cannot be used"


class IdempotencyKeyReusedError(RequestError):
    """The Idempotency-Key came with another request before."""

    code, status, title = "idempotency_key_reused", 422, "The Idempotency-Key belongs to another request"


class ClientGoneError(RequestError):
    """The client hung up before its request was complete."""

    code, status, title = "client_gone", 499, "The client hung up"


class AccessError(ServiceError):
    """The caller may not ask for this."""

    code, status, title = "access_refused", 403, "This is not allowed"


class KeyRequiredError(AccessError):
    """No API key came with the request."""

    code, status, title = "key_required", 401, "An API key is needed"


class KeyUnknownError(AccessError):
    """No key like the one that came was ever made."""

    code, status, title = "key_unknown", 401, "The API key is not known"


class KeyExpiredError(AccessError):
    """The key's time is over."""

    code, status, title = "key_expired", 401, "The API key has expired"


class KeyRevokedError(AccessError):
    """Somebody ended the key."""

    code, status, title = "key_revoked", 401, "The API key was revoked"


class ScopeMissingError(AccessError):
    """The key is good and does not allow this."""

    code, status, title = "scope_missing", 403, "The API key does not allow this"


class HostNotAllowedError(AccessError):
    """The request is for a name that is not this service's."""

    code, status, title = "host_not_allowed", 403, "This name is not the service's"


class OriginNotAllowedError(AccessError):
    """A page of another site asked, in somebody's browser."""

    code, status, title = "origin_not_allowed", 403, "Pages of other sites may not ask"


class LimitError(ServiceError):
    """The key has used up what it may use."""

    code, status, title = "limit_exceeded", 429, "A limit of the API key is reached"


class RequestsExceededError(LimitError):
    """The key made as many requests in a minute as it may."""

    code, status, title = "requests_exceeded", 429, "The API key has made too many requests"


class StorageExceededError(LimitError):
    """The files of the key's jobs would have more bytes than they may."""

    code, status, title = "storage_exceeded", 429, "The API key has stored all that it may"


class FormError(ServiceError):
    """The form's fields are not what is asked for."""

    code, status, title = "form_invalid", 422, "The form cannot be used"


class FieldMissingError(FormError):
    """A required field was not sent."""

    code, status, title = "field_missing", 422, "A required field is missing"


class FieldUnknownError(FormError):
    """A field has a name that means nothing here."""

    code, status, title = "field_unknown", 422, "A field is unknown"


class FieldRepeatedError(FormError):
    """A field was sent more than once."""

    code, status, title = "field_repeated", 422, "A field was sent twice"


class FieldConflictError(FormError):
    """A field was sent both by itself and inside `spec`."""

    code, status, title = "field_conflict", 422, "A field was given twice, in two ways"


class FieldInvalidError(FormError):
    """A field is a file where text is asked for, the other way round, or not UTF-8."""

    code, status, title = "field_invalid", 422, "A field cannot be used"


class FieldTooLargeError(FormError):
    """A field that is no file has more bytes than a field needs."""

    code, status, title = "field_too_large", 413, "A field is too large"


class RouteNotFoundError(ServiceError):
    """No such path."""

    code, status, title = "route_not_found", 404, "There is nothing at this path"


class MethodNotAllowedError(ServiceError):
    """The path exists, the method does not."""

    code, status, title = "method_not_allowed", 405, "The path does not answer to this method"


class RangeNotSatisfiableError(ServiceError):
    """The range that was asked for lies outside the file."""

    code, status, title = "range_not_satisfiable", 416, "The range lies outside the file"


class ResultNotReadyError(ServiceError):
    """The job has no result: it has not ended yet, or it did not succeed."""

    code, status, title = "result_not_ready", 409, "The job has no result"


class InspectionError(ServiceError):
    """A model cannot be looked through before a job."""

    code, status, title = "inspection_failed", 500, "The model could not be looked through"


class InspectionBusyError(InspectionError):
    """As many models as the settings allow are being looked through."""

    code, status, title = "inspection_busy", 503, "Other models are being looked through"


class InspectionTimeoutError(InspectionError):
    """Looking through the model takes longer than the settings allow."""

    code, status, title = "inspection_timeout", 422, "The model takes too long to look through"


class InspectionCrashedError(InspectionError):
    """The process that looked through the model ended without a word: crashed, or out of memory."""

    code, status, title = "inspection_crashed", 422, "The model could not be looked through"


class InternalError(ServiceError):
    """Something failed that should not have; the request id finds it in the log."""

    code, status, title = "internal_error", 500, "The service failed"
