"""``DELETE /api/v1/connectors/requests/{request_id}``: publishes the same cancel command that upstream publishes, and
waits a little for what becomes of it.

The planner's order decides: a fetch that ends first has ended. Nothing is undone here, so a call may be repeated.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from api.rest import parameters
from api.rest.auth import Principal
from api.rest.live import body_here, committed
from api.rest.problem import Problem
from api.rest.requests import JSON, asked_id, find
from api.rest.services import SERVICES, RestServices, cancel_command_as_avro, trace_of
from app.domain.lifecycle import TERMINAL
from app.domain.messages import RequestView
from app.domain.model import RequestState
from app.ports import BrokerUnavailable


async def delete(request: web.Request, principal: Principal) -> web.Response:
    """200 with the state when the request is cancelled, also when it was before; 202 when nothing is decided in time;
    409 when it has ended otherwise, or is a write whose call may have left; 404 as for GET; 503 when the broker does
    not answer, or nobody knows."""
    services: RestServices = request.app[SERVICES]
    parameters.given(request)
    request_id = asked_id(request)
    view = await find(services, request_id)
    if view is not None and view.org_id == principal.org_id and view.state in TERMINAL:
        return _ended(services, view)
    if view is not None and view.org_id == principal.org_id:
        _refuse_sent(view)
    await _publish(services, request, _command(services, request_id, view, principal.org_id))
    ended = await services.views.wait_until_ended(request_id, services.decide_within_s)
    if ended is not None:
        return _ended(services, ended)
    return _undecided(services, request_id, view, principal.org_id)


def _command(services: RestServices, request_id: str, view: RequestView | None, org_id: int) -> dict[str, Any]:
    """The command for a request of this organisation, also one that was published here and is not decided on."""
    if view is None:
        accept = services.published.accept(request_id, org_id)
        connector_id = None if accept is None else accept.connector.connector_id
    else:
        connector_id = view.connector_id if view.org_id == org_id else None
    if connector_id is None:
        raise Problem("not_found")
    return {"org_id": org_id, "connector_id": connector_id, "request_id": request_id}


async def _publish(services: RestServices, request: web.Request, command: dict[str, Any]) -> None:
    try:
        # Under the connector's id, as its fetch command was: so it comes after it.
        value = cancel_command_as_avro(command)
        await services.publisher.publish(command["connector_id"], value, trace_of(request))
    except BrokerUnavailable:
        raise Problem("broker_unavailable", retry_after_s=5, request_id=command["request_id"]) from None


def _ended(services: RestServices, view: RequestView) -> web.Response:
    if view.state != RequestState.CANCELLED:
        raise Problem("already_ended", f"the request has {view.state} already", request_id=view.request_id)
    services.published.forget(view.request_id)
    return web.Response(body=services.bodies.of(view), headers=JSON)


def _refuse_sent(view: RequestView) -> None:
    """Raises ``Problem`` for a write that the planner would not take back."""
    if view.write is not None and view.write["sent"]:
        detail = "the write is under way: its call may have left, so that it cannot be cancelled"
        raise Problem("already_running", detail, request_id=view.request_id)


def _undecided(services: RestServices, request_id: str, view: RequestView | None, org_id: int) -> web.Response:
    # Who has not decided in time is not asked how it stands either.
    view = services.views.held(request_id) or view
    if view is not None:
        _refuse_sent(view)
    if view is None:
        body = services.published.body(request_id, org_id)
    else:
        body = body_here(services, view) or committed(services, view)
    return web.Response(body=body, status=202, headers=JSON)
