"""One tree of errors: the class says the code, the HTTP status, whether to retry, and what a client may read.

Whatever is raised inside is mapped to one of these at the border where it is caught. `str(error)` is always safe to
send: it holds our words only, never a provider's, an exception's or another tenant's.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Code(StrEnum):
    """Every `error.code` and `problem.code` there is (contract, section 2)."""

    INVALID_REQUEST = "invalid_request"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    PROVIDER_ERROR = "provider_error"
    PROVIDER_RATE_LIMITED = "provider_rate_limited"
    CONTENT_FILTERED = "content_filtered"
    INVALID_ANSWER = "invalid_answer"
    NO_EVIDENCE = "no_evidence"
    RETRIEVAL_FAILED = "retrieval_failed"
    TOOL_FAILED = "tool_failed"
    PERSIST_FAILED = "persist_failed"
    CANCELLED = "cancelled"
    SHUTTING_DOWN = "shutting_down"
    INTERNAL = "internal"


class Reason(StrEnum):
    """Why a request was refused before its stream began: the label of `rejections_total` (contract, section 4)."""

    RATE = "rate"
    QUOTA = "quota"
    TENANT_CONCURRENCY = "tenant_concurrency"
    TENANT_QUEUE_FULL = "tenant_queue_full"
    QUEUE_FULL = "queue_full"
    DEADLINE = "deadline"
    DRAINING = "draining"
    TOO_LARGE = "too_large"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    INVALID = "invalid"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    TIMEOUT = "timeout"


class Cause(StrEnum):
    """Why a request was cancelled: the label of `cancellations_total` (contract, section 3)."""

    CLIENT_DISCONNECT = "client_disconnect"
    CLIENT_CANCEL = "client_cancel"
    STALLED_READER = "stalled_reader"
    SHUTDOWN = "shutdown"


class ForebayError(Exception):
    """The root. `detail` is a sentence of ours for the client; `retry_after` is in seconds."""

    code: ClassVar[Code] = Code.INTERNAL
    status: ClassVar[int] = 500
    retryable: bool = False
    title: ClassVar[str] = "Something went wrong on our side"
    reason: Reason | None = None
    phase: str | None = None  # the innermost phase that it ended, once it has

    def __init__(
        self,
        detail: str = "",
        *,
        reason: Reason | None = None,
        retry_after: float | None = None,
        field: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.retry_after = retry_after
        self.field = field
        self.http_status = status or self.status
        if reason is not None:
            self.reason = reason


class InvalidRequest(ForebayError):
    """The request itself is wrong; `field` names where."""

    code, status, title = Code.INVALID_REQUEST, 422, "The request is not valid"
    reason = Reason.INVALID


class Unauthenticated(ForebayError):
    """No key, or one that is unknown, expired or revoked."""

    code, status, title = Code.UNAUTHENTICATED, 401, "A valid API key is needed"
    reason = Reason.UNAUTHENTICATED


class Forbidden(ForebayError):
    """The policy says no, or could not say yes."""

    code, status, title = Code.FORBIDDEN, 403, "Not allowed by policy"
    reason = Reason.FORBIDDEN


class NotFound(ForebayError):
    """Not there, or not the caller's: the two look the same."""

    code, status, title = Code.NOT_FOUND, 404, "Not found"
    reason = Reason.NOT_FOUND


class Conflict(ForebayError):
    """What was asked contradicts what already happened."""

    code, status, title = Code.CONFLICT, 409, "In conflict with the present state"
    reason = Reason.CONFLICT


class TooLarge(ForebayError):
    """The body or the headers are over their limit."""

    code, status, title = Code.TOO_LARGE, 413, "The request is too large"
    reason = Reason.TOO_LARGE


class RateLimited(ForebayError):
    """A limit of this tenant, user or key is reached: 429."""

    code, status, title, retryable = Code.RATE_LIMITED, 429, "A limit of yours is reached", True
    reason = Reason.RATE


class Overloaded(ForebayError):
    """The service has no place for this now: 503."""

    code, status, title, retryable = Code.OVERLOADED, 503, "No place is free", True
    reason = Reason.QUEUE_FULL


class PhaseTimeout(ForebayError):
    """A phase ran into its budget. `limit` says whose: the phase's own, the total's or the client's."""

    code, status, title, retryable = Code.TIMEOUT, 504, "A time budget was used up", True
    reason = Reason.TIMEOUT

    phase: str

    def __init__(self, phase: str, limit: str, what: str | None = None) -> None:
        super().__init__(f"{what or phase} used up its time budget")
        self.phase, self.limit = phase, limit


class ProviderFailure(ForebayError):
    """A model's provider failed. What it said stays here: only its status, code and request id go to the span.

    `kind` is a value of `provider_requests_total{outcome}`: timeout, connect, 429, 4xx, 5xx, malformed. `retry_safe`
    says whether we may ask again; the client may also where a stream was cut.
    """

    code, status, title = Code.PROVIDER_ERROR, 502, "The model's provider failed"
    reason = Reason.PROVIDER_UNAVAILABLE

    def __init__(
        self,
        kind: str,
        *,
        provider_status: int | None = None,
        provider_code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        retry_safe: bool = False,
    ) -> None:
        super().__init__(retry_after=retry_after)
        self.kind = kind
        self.provider_status = provider_status
        self.provider_code = (provider_code or "")[:64]
        self.request_id = (request_id or "")[:128]
        self.retry_safe = retry_safe
        self.retryable = retry_safe or kind == "malformed"


class ProviderRateLimited(ProviderFailure):
    """The provider answered 429."""

    code, status, title = Code.PROVIDER_RATE_LIMITED, 503, "The model's provider is at its limit"


class ProviderUnavailable(ForebayError):
    """A model's provider has failed so often of late that it is not asked."""

    code, status, title, retryable = Code.PROVIDER_ERROR, 503, "The model's provider is not available", True
    reason = Reason.PROVIDER_UNAVAILABLE


class ContentFiltered(ForebayError):
    """The provider withheld the answer."""

    code, status, title = Code.CONTENT_FILTERED, 422, "The answer was withheld by the provider's content filter"


class InvalidAnswer(ForebayError):
    """The model's answer did not pass validation."""

    code, status, title, retryable = Code.INVALID_ANSWER, 502, "The model's answer was not valid", True


class NoEvidence(ForebayError):
    """Grounding is required and nothing was found."""

    code, status, title = Code.NO_EVIDENCE, 422, "No evidence was found for a grounded answer"


class RetrievalFailed(ForebayError):
    """Grounding is required and the retrieval failed."""

    code, status, title, retryable = Code.RETRIEVAL_FAILED, 502, "The retrieval of evidence failed", True


class ToolFailed(ForebayError):
    """A tool failed, and certainly nothing has happened. `said` is its own text: for the model, and for nobody else."""

    code, status, title = Code.TOOL_FAILED, 502, "A tool failed"

    def __init__(self, detail: str = "", *, said: str = "") -> None:
        super().__init__(detail)
        self.said = said


class ToolUnavailable(ToolFailed):
    """A tool could not be reached: it may be another time."""

    retryable, title = True, "A tool is not available"


class PersistFailed(ForebayError):
    """The state database did not take or give what the turn needs."""

    code, status, title, retryable = Code.PERSIST_FAILED, 503, "The state database is not available", True
    reason = Reason.PROVIDER_UNAVAILABLE


class Cancelled(ForebayError):
    """Stopped on request, from another connection."""

    code, status, title = Code.CANCELLED, 409, "Cancelled"


class ShuttingDown(ForebayError):
    """This process is draining."""

    code, status, title, retryable = Code.SHUTTING_DOWN, 503, "This instance is shutting down", True
    reason = Reason.DRAINING


class Internal(ForebayError):
    """A bug of ours: everything that nobody foresaw."""


def _tree(kind: type[ForebayError]) -> list[type[ForebayError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _tree(child))]


STATUS_OF: dict[str, int] = {str(kind.code): kind.status for kind in reversed(_tree(ForebayError))}
