"""Listening: one port, no access log of its own, and problem+json even for what is not HTTP at all."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http_exceptions import LineTooLong

from api.rest.app import build_app
from api.rest.problem import Problem
from api.rest.services import RestServices

log = logging.getLogger(__name__)


class _Nameless(web.Response):
    """An answer given before there is a request, so that the application's own hook on answers does not see it."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall(hdrs.SERVER, None)


class _Protocol(web.RequestHandler):
    """Answers what the HTTP parser refuses the way everything else is answered, and says nothing of the server."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun, no other can be sent")
        slug = "internal" if status >= 500 else "headers_too_large" if isinstance(exc, LineTooLong) else "bad_request"
        if slug == "internal":
            log.error("request failed below the application", exc_info=exc)
        told = Problem(slug).response()
        response = _Nameless(body=told.body, status=told.status, headers=told.headers)
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    __slots__ = ()

    async def _make_server(self) -> web.Server:
        server: Any = await super()._make_server()
        # The framework has no setting for the protocol class; same object, one overridden factory method.
        server.__class__ = _Server
        return server  # type: ignore[no-any-return]


@dataclass(frozen=True)
class RestServer:
    """A listening server; ``port`` is the real one when 0 was asked for."""

    port: int
    runner: web.AppRunner

    async def stop(self) -> None:
        """Stops listening, lets running requests end (at most 5 s), closes connections."""
        await self.runner.cleanup()


async def serve(services: RestServices, host: str, port: int) -> RestServer:
    """Starts REST on ``host:port``. Raises ``OSError`` when the port is taken."""
    # Lingering: how long what is left of a refused body is read and thrown away before the connection goes.
    runner = _Runner(
        build_app(services),
        access_log=None,
        handle_signals=False,
        shutdown_timeout=5.0,
        keepalive_timeout=75.0,
        lingering_time=0.5,
    )
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    bound = runner.addresses[0][1]
    return RestServer(int(bound), runner)
