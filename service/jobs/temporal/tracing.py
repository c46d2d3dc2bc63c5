"""Our trace context through Temporal: from who hands a job out, through its workflow, to who works on it.

Temporal's own interceptor needs OpenTelemetry, which telemetry alone imports; and it makes a span of each of its calls,
while a job is one span here. So this carries W3C headers, and opens none: the spans are opened where the work is.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from temporalio import client, worker
from temporalio.converter import PayloadConverter

if TYPE_CHECKING:
    from temporalio import workflow
    from temporalio.api.common.v1 import Payload

    from telemetry.observe import Observer

HEADER = "forebay-trace"

_caller: ContextVar[Mapping[str, str]] = ContextVar("caller")


def caller() -> Mapping[str, str]:
    """Return, within an activity, the W3C headers of the span that handed the job out; {} if it had none."""
    return _caller.get({})


class Tracing(client.Interceptor, worker.Interceptor):
    """Writes the current span's headers into what the client starts; hands them on, unread, through the workflow."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def intercept_client(self, next: client.OutboundInterceptor) -> client.OutboundInterceptor:  # noqa: A002  (theirs)
        """Let workflows be started with the headers."""
        return _Starting(next, self._observer)

    def workflow_interceptor_class(
        self,
        input: worker.WorkflowInterceptorClassInput,  # noqa: A002, ARG002  (theirs)
    ) -> type[worker.WorkflowInboundInterceptor] | None:
        """Let workflows hand the headers on."""
        return _Passing

    def intercept_activity(self, next: worker.ActivityInboundInterceptor) -> worker.ActivityInboundInterceptor:  # noqa: A002
        """Let activities read the headers."""
        return _Arriving(next)


class _Starting(client.OutboundInterceptor):
    def __init__(self, following: client.OutboundInterceptor, observer: Observer) -> None:
        super().__init__(following)
        self._observer = observer

    async def start_workflow(self, input: client.StartWorkflowInput) -> client.WorkflowHandle[Any, Any]:  # noqa: A002
        headers = self._observer.trace_headers()
        if headers:
            input.headers = {**input.headers, HEADER: PayloadConverter.default.to_payload(headers)}
        return await super().start_workflow(input)


class _Passing(worker.WorkflowInboundInterceptor):
    """In the workflow: what it was started with goes to each of its activities."""

    def init(self, outbound: worker.WorkflowOutboundInterceptor) -> None:
        self._outbound = _Handing(outbound)
        super().init(self._outbound)

    async def execute_workflow(self, input: worker.ExecuteWorkflowInput) -> Any:  # noqa: A002
        self._outbound.carried = {key: value for key, value in input.headers.items() if key == HEADER}
        return await super().execute_workflow(input)


class _Handing(worker.WorkflowOutboundInterceptor):
    carried: Mapping[str, Payload] = {}

    def start_activity(self, input: worker.StartActivityInput) -> workflow.ActivityHandle[Any]:  # noqa: A002
        return super().start_activity(replace(input, headers={**input.headers, **self.carried}))


class _Arriving(worker.ActivityInboundInterceptor):
    async def execute_activity(self, input: worker.ExecuteActivityInput) -> Any:  # noqa: A002
        if (payload := input.headers.get(HEADER)) is not None:
            _caller.set(PayloadConverter.default.from_payload(payload, dict[str, str]))
        return await super().execute_activity(input)
