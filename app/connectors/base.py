"""HTTP to a provider on behalf of one leased step: one permit, one request (spec section 14, R2).

The order inside a call is fixed: token, permit, connection, permit checked, bytes. A token refresh can take seconds,
so it comes before the permit's ten seconds begin; what can still take long after the permit is asked is checked by
``session``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import aiohttp
from yarl import URL

from app.connectors import body
from app.connectors.body import Limits
from app.connectors.failures import TokenRefused, transport_failure
from app.connectors.hosts import Hosts, checked
from app.connectors.session import DEPARTURE, AlreadyDeparted, Departure, StalePermit
from app.connectors.usage import ReadUsage, no_usage
from app.domain.errors import Failure, PermitDenied, ProviderError
from app.domain.messages import Offer, Usage
from app.ports import Clock, Ended, HttpAnswer, HttpStream, Permit, Permits, TokenSource

__all__ = ["Hosts", "Limits", "ProviderHttp"]

log = logging.getLogger(__name__)

TRIES = 3
"""Permits one call may use up while none of its requests could leave in time."""

UNCOUNTED = "downloads"
"""The charge that no quota counts: files behind signed links, which may take longer than a call."""

RETRY_IN_S = 1.0
"""When no permit stayed fresh until the connection was there, the step is handed back for this long."""

USER_AGENT = "connector-service (gzip)"
"""Google compresses only for agents that name gzip beside asking for it."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call as the adapter wants it. Nothing secret is in its repr: ``token`` is not kept here, and headers may
    hold keys."""

    method: str
    url: URL
    charge: str
    data: bool
    authorised: bool
    total_s: float
    json: Any = None
    form: Mapping[str, str] | None = None
    params: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _Exchange:
    """A request that left, its answer's head and how long that took, the permit it spends and when it must have ended
    (loop time)."""

    response: aiohttp.ClientResponse
    permit: Permit
    deadline: float
    latency_ms: int


@dataclass(slots=True)
class _Trip:
    """Whether and when a request left, and how it ended: ``cancelled`` until something else is known. ``failed`` says
    that the provider owed an answer and gave none."""

    on_leave: Callable[[], None]
    monotonic: Callable[[], float]
    began_at: float = 0.0
    left_at: float | None = None
    ending: str = "cancelled"
    failed: bool = False

    def __post_init__(self) -> None:
        self.began_at = self.monotonic()

    def leave(self) -> None:
        self.left_at = self.monotonic()
        self.on_leave()

    @property
    def latency_ms(self) -> int:
        """Milliseconds since it left or, if it could not, since it was to leave."""
        since = self.began_at if self.left_at is None else self.left_at
        return round((self.monotonic() - since) * 1000)

    @property
    def ended(self) -> Ended | None:
        """What its permit tells when no answer came: nothing of the provider, if the call was cancelled, met a
        connection closed while it was idle, or may not go where it should."""
        left = self.left_at is not None
        if not (self.failed or left):
            return None
        return Ended(self.latency_ms, False if self.failed else None, left, error=self.ending if self.failed else "")


class _Stream:
    """``ports.HttpStream`` over one exchange."""

    def __init__(self, exchange: _Exchange, limits: Limits) -> None:
        self.status = exchange.response.status
        self.headers: Mapping[str, str] = _lower(exchange.response)
        self._exchange = exchange
        self._limits = limits

    def chunks(self) -> AsyncIterator[bytes]:
        return body.pieces(
            self._exchange.response, self._limits, most=self._limits.stream_bytes, deadline=self._exchange.deadline
        )


class ProviderHttp:
    """``ports.Calls`` for one step of one offer; cheap to make, over the shared session (``session.provider_session``).

    ``crash`` is told the crash points ``token_read``, ``request_sent`` and ``response_begun``. ``observe`` hears how
    each request that left ended: with its HTTP status, or the code of what came instead of an answer. ``usage`` reads
    the headers of every answer.
    """

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        permits: Permits,
        tokens: TokenSource,
        clock: Clock,
        offer: Offer,
        hosts: Hosts,
        limits: Limits | None = None,
        crash: Callable[[str], None] = lambda _point: None,
        observe: Callable[[str], None] = lambda _ending: None,
        usage: ReadUsage = no_usage,
    ) -> None:
        self.made = 0
        self.first_at: int | None = None
        self._session = session
        self._permits = permits
        self._tokens = tokens
        self._clock = clock
        self._connector = offer.connector
        self._hosts = hosts
        self._limits = limits or Limits()
        self._crash = crash
        self._observe = observe
        self._usage = usage

    async def request(
        self,
        method: str,
        url: str,
        *,
        charge: str,
        data: bool = False,
        authorised: bool = True,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        check: Callable[[HttpAnswer], None] | None = None,
    ) -> HttpAnswer:
        """One call and its whole answer, whatever its status. Raises ``ProviderError`` or ``PermitDenied``, and what
        ``check`` raises."""
        target = checked(url, self._hosts, authorised=authorised)
        total_s = self._limits.call_s
        call = _Call(method, target, charge, data, authorised, total_s, json, form, params, headers)
        used: list[str] = []
        try:
            return await self._whole(call, check, used)
        except TokenRefused:
            if len(used) != 1:
                raise
        return await self._whole(call, check, used)

    async def _whole(self, call: _Call, check: Callable[[HttpAnswer], None] | None, used: list[str]) -> HttpAnswer:
        """The answer, and at the end of ``used`` the tokens that were sent for it."""
        async with self._exchange(call, used) as exchange:
            content = await body.whole(exchange.response, self._limits, deadline=exchange.deadline)
            answer = HttpAnswer(exchange.response.status, _lower(exchange.response), content)
            if check is not None:
                check(answer)
            return answer

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        charge: str,
        data: bool = False,
        authorised: bool = True,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[HttpStream]:
        """One call whose body is read in pieces; its permit is given back when the context ends."""
        target = checked(url, self._hosts, authorised=authorised)
        # The planner frees a permit that never came back after the call's deadline, so what a quota counts keeps to it.
        total_s = self._limits.stream_s if charge == UNCOUNTED else self._limits.call_s
        call = _Call(method, target, charge, data, authorised, total_s, json, headers=headers)
        async with self._exchange(call) as exchange:
            yield _Stream(exchange, self._limits)

    @asynccontextmanager
    async def _exchange(self, call: _Call, used: list[str] | None = None) -> AsyncIterator[_Exchange]:
        """``used``: tokens that were refused for this call, to which the one or two of this exchange are added."""
        sent = [] if used is None else used
        exchange = await self._open(call, await self._token(call, sent))
        if exchange.response.status == 401 and len(sent) == 1:
            self._end(exchange, _answered(exchange))
            exchange = await self._open(call, await self._token(call, sent))
        ended = _answered(exchange)
        try:
            yield exchange
        except ProviderError as error:
            ended = _judged(exchange, error.failure)
            raise
        except BaseException:
            ended = replace(ended, neutral=bool(ended.ok))
            raise
        finally:
            self._end(exchange, ended)

    async def _token(self, call: _Call, sent: list[str]) -> str | None:
        if not call.authorised:
            return None
        facts, rejected = self._connector, sent[-1] if sent else None
        token = await self._tokens.access_token(facts.org_id, facts.grant_id, rejected=rejected)
        self._crash("token_read")
        sent.append(token)
        return token

    async def _open(self, call: _Call, token: str | None) -> _Exchange:
        """Takes a permit and sends; asks for another when it went stale, or when a kept-alive connection was gone."""
        reset = False
        for _ in range(TRIES):
            permit = await self._permits.take(call.charge, data=call.data)
            trip = _Trip(self._left, self._clock.monotonic)
            try:
                return await self._depart(call, token, permit, trip)
            except (StalePermit, AlreadyDeparted) as again:
                reset = isinstance(again, AlreadyDeparted)
                self._permits.give_back(permit, trip.ended)
            except BaseException:
                self._permits.give_back(permit, trip.ended)
                raise
        if reset:
            raise transport_failure(AlreadyDeparted())
        raise PermitDenied("quota", RETRY_IN_S)

    async def _depart(self, call: _Call, token: str | None, permit: Permit, trip: _Trip) -> _Exchange:
        departure = Departure(
            permit.usable_until, self._clock.monotonic, trip.leave, partial(self._crash, "request_sent")
        )
        deadline = asyncio.get_running_loop().time() + call.total_s
        mark = DEPARTURE.set(departure)
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._send(call, token)
        except (aiohttp.ClientError, OSError, TimeoutError, AlreadyDeparted) as error:
            failure: ProviderError = transport_failure(error)
            trip.ending = failure.failure.code
            if isinstance(error, AlreadyDeparted) and departure.reused:
                raise  # closed while it was idle, which says nothing about the provider
            trip.failed = failure.failure.system
        else:
            latency_ms = trip.latency_ms
            trip.ending = str(response.status) if response.status < 600 else "other"
            self._crash("response_begun")
            log.debug(
                "provider_call", extra={"method": call.method, "url": _plain(call.url), "status": response.status}
            )
            return _Exchange(response, permit, deadline, latency_ms)
        finally:
            DEPARTURE.reset(mark)
            if trip.left_at is not None:
                self._observe(trip.ending)
        log.info("provider_call_failed", extra={"url": _plain(call.url), "code": failure.failure.code})
        raise failure

    async def _send(self, call: _Call, token: str | None) -> aiohttp.ClientResponse:
        return await self._session.request(
            call.method,
            call.url,
            json=call.json,
            data=call.form,
            params=call.params,
            headers=_headers(call, {} if token is None else self._hosts.credentials(token)),
            allow_redirects=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=self._limits.connect_s, sock_read=self._limits.idle_s),
        )

    def _left(self) -> None:
        self.made += 1
        if self.first_at is None:
            self.first_at = self._clock.now()

    def _end(self, exchange: _Exchange, ended: Ended) -> None:
        # Closes the connection unless the body was read to its end, in which case it is back in the pool already.
        exchange.response.close()
        self._permits.give_back(exchange.permit, replace(ended, usage=self._told(exchange.response)))

    def _told(self, response: aiohttp.ClientResponse) -> tuple[Usage, ...]:
        """What the headers tell of quotas. They are the provider's: nothing in them may cost a permit its return."""
        try:
            return tuple(self._usage(_lower(response)))
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            log.warning("unreadable_usage", extra={"error": type(error).__name__})
            return ()


def _answered(exchange: _Exchange) -> Ended:
    """What a status alone says: 5xx and 408 are the provider's failures, what else is no success is a refusal."""
    status = exchange.response.status
    if status >= 500 or status == 408:
        return Ended(exchange.latency_ms, ok=False, error=f"http_{status}")
    return Ended(exchange.latency_ms, ok=True, neutral=status >= 300)


def _judged(exchange: _Exchange, failure: Failure) -> Ended:
    """What the adapter made of an answer while it read it."""
    if failure.system:
        return Ended(exchange.latency_ms, ok=False, error=failure.code)
    return Ended(exchange.latency_ms, ok=True, neutral=True)


def _headers(call: _Call, credentials: Mapping[str, str]) -> dict[str, str]:
    return {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip", **(call.headers or {}), **credentials}


def _lower(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Header names in lower case; of a repeated one the first."""
    found: dict[str, str] = {}
    for name, value in response.headers.items():
        found.setdefault(name.lower(), value)
    return found


def _plain(url: URL) -> str:
    """For logs: signed links carry their secret in the query."""
    return str(url.with_query(None).with_fragment(None))
