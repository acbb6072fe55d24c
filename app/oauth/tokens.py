"""``ports.TokenSource``: at most one refresh per expiry among all processes, and before a request needs it.

In a process one task per grant asks; everybody waits for it. Among processes the right to refresh is claimed in
PostgreSQL (``storage/postgres/grants.py``), neither lock nor connection is held during the call, and who lost the race
finds the token in the cache. Without the cache each process refreshes for itself; without PostgreSQL tokens that are
held or cached are used on.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NoReturn, Protocol

from app.deadline import within
from app.domain.errors import ErrorClass, Failure, ProviderError
from app.oauth.access import (
    CHECK_S,
    Held,
    NoCache,
    cache_key,
    from_cache,
    hold,
    hold_forever,
    margin_s,
    renewal_pause_s,
    to_cache,
)
from app.oauth.credentials import secret_of
from app.oauth.token_endpoint import GrantRefused, Issued, TokenEndpoint
from app.oauth.vault import UnknownKey, Vault, VaultError
from app.ports import Clock, Kept

log = logging.getLogger(__name__)

_CLAIM_SLACK_S: Final = 10.0
_STORE_RETRY_S: Final = 15.0
_REJECTED_S: Final = 60.0
_STANDING_S: Final = 1.0
"""How long the store may take to say whether the grant of a token that is still good stands."""
_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.4)


class Grant(Protocol):
    """A grant as the store gives it."""

    @property
    def org_id(self) -> int: ...
    @property
    def grant_id(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def key_id(self) -> str: ...
    @property
    def ciphertext(self) -> bytes: ...
    @property
    def generation(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def status(self) -> str: ...


class Grants(Protocol):
    """Grants and the right to refresh them. All raise ``ConnectionError`` while the store is away."""

    async def read(self, org_id: int, grant_id: str) -> Grant | None: ...

    async def claim(self, org_id: int, grant_id: str, version: int, lease_s: float) -> Any | None: ...

    async def finish(
        self,
        claim: Any,
        *,
        access_expires_at: int,
        sealed: tuple[str, bytes] | None = None,
        fingerprint: str | None = None,
    ) -> bool: ...

    async def release(self, claim: Any) -> None: ...

    async def refuse(self, claim: Any, status: str) -> bool: ...


Key = tuple[int, str]


def _silent(_provider: str, _outcome: str) -> None:
    return


class GrantTokenSource:
    """Access tokens for grants. ``endpoints`` by provider; ``on_refused(org_id, grant_id, version)`` is awaited by the
    one process that found a grant dead; ``observe`` hears the provider of each refresh and how it ended: ok, refused,
    failed."""

    def __init__(
        self,
        grants: Grants,
        vault: Vault,
        endpoints: Mapping[str, TokenEndpoint],
        clock: Clock,
        *,
        cache: Kept | None = None,
        on_refused: Callable[[int, str, int], Awaitable[None]] | None = None,
        observe: Callable[[str, str], None] = _silent,
    ) -> None:
        self._grants = grants
        self._vault = vault
        self._endpoints = endpoints
        self._clock = clock
        self._cache = cache or NoCache()
        self._on_refused = on_refused
        self._observe = observe
        self._held: dict[Key, Held] = {}
        self._flights: dict[Key, asyncio.Task[Held]] = {}
        self._renewals: dict[Key, asyncio.Task[Held]] = {}

    async def access_token(self, org_id: int, grant_id: str, *, rejected: str | None = None) -> str:
        """A token to send; ``rejected`` is one that the provider refused. Raises ``ProviderError``."""
        key = (org_id, grant_id)
        held = self._held.get(key)
        if held is not None and self._good(held, rejected) and self._clock.monotonic() < held.checked_until:
            self._renew_ahead(key, held)
            return held.token
        if held is not None and rejected is not None and self._hopeless(held, rejected):
            raise _failure(
                ErrorClass.AUTHORISATION, "token_rejected", "a fresh token is refused", retry_in_s=_REJECTED_S
            )
        held = await self._flight(key, rejected)
        if held.token == rejected:
            # Somebody else's flight, who did not know that the token is refused.
            held = await self._flight(key, rejected)
        self._renew_ahead(key, held)
        return held.token

    async def close(self) -> None:
        """Stops what is under way."""
        tasks = [*self._flights.values(), *self._renewals.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _good(self, held: Held, rejected: str | None) -> bool:
        return held.token != rejected and self._clock.monotonic() < held.good_until

    def _hopeless(self, held: Held, rejected: str) -> bool:
        """A token that was fetched because the one before was refused, and is refused too: no third one helps."""
        young = self._clock.monotonic() - held.issued_at < _REJECTED_S
        return held.forced and held.token == rejected and young

    async def _flight(self, key: Key, rejected: str | None) -> Held:
        task = self._flights.get(key)
        if task is None:
            task = _start(self._flights, key, self._obtain(key, rejected))
        return await asyncio.shield(task)

    def _renew_ahead(self, key: Key, held: Held) -> None:
        if self._clock.monotonic() >= held.renew_at and key not in self._renewals:
            held.renew_at = self._clock.monotonic() + renewal_pause_s(held)
            _start(self._renewals, key, self._obtain(key, held.token, wait=False))

    async def _obtain(self, key: Key, rejected: str | None, *, wait: bool = True) -> Held:
        """A token other than ``rejected``; while that cannot be had, one that still works."""
        try:
            held = await self._found_or_refreshed(key, rejected, wait=wait)
        except ProviderError as error:
            old = self._held.get(key)
            if not error.failure.retryable:
                self._held.pop(key, None)
                raise
            if old is None or old.token == rejected or self._clock.monotonic() >= old.dead_at:
                raise
            held = old
        held.checked_until = self._clock.monotonic() + CHECK_S
        held.forced = held.forced or (rejected is not None and wait)
        self._held[key] = held
        return held

    async def _found_or_refreshed(self, key: Key, rejected: str | None, *, wait: bool) -> Held:
        for pause_s in self._patience(wait=wait):
            row = await self._read(key, rejected)
            if row is None:
                return await self._without_store(key, rejected)
            held = await self._known(row, key, rejected)
            if held is not None:
                return held
            claim = await self._claim(row)
            if claim is not None:
                held = await self._refresh(row, claim)
                if held is not None:
                    return held
            else:
                await asyncio.sleep(pause_s)
        raise _failure(
            ErrorClass.PROVIDER_SYSTEM, "token_wait", "another worker's refresh takes too long", retry_in_s=5.0
        )

    def _patience(self, *, wait: bool) -> Sequence[float]:
        """Pauses after each look but the last, for as long as a dead worker's claim and then another's refresh."""
        if not wait:
            return (0.0,)
        longest = 2 * (max((e.timeout_s for e in self._endpoints.values()), default=0.0) + _CLAIM_SLACK_S)
        return (*_PAUSES_S, *[_PAUSES_S[-1]] * int(longest / _PAUSES_S[-1]), 0.0)

    async def _read(self, key: Key, rejected: str | None) -> Grant | None:
        """The grant if it stands; None while the store is away, or silent though a good token is held. Raises
        ``ProviderError`` when it does not stand."""
        held = self._held.get(key)
        limit_s = _STANDING_S if held is not None and self._good(held, rejected) else None
        try:
            row = await within(limit_s, self._grants.read(*key))
        except (ConnectionError, TimeoutError):
            return None
        if row is None:
            raise _failure(ErrorClass.AUTHORISATION, "grant_unknown", "the connector's authorisation does not exist")
        if row.status != "active":
            raise _reauthorise()
        return row

    async def _without_store(self, key: Key, rejected: str | None) -> Held:
        for held in (self._held.get(key), await self._cached(key)):
            if held is not None and self._good(held, rejected):
                return held
        message = "the store of authorisations is away"
        raise _failure(ErrorClass.INTERNAL, "grant_store_unavailable", message, retry_in_s=_STORE_RETRY_S)

    async def _known(self, row: Grant, key: Key, rejected: str | None) -> Held | None:
        """What needs no refresh: a key that is sent as it is, the token held here, the one in the cache."""
        if row.kind == "api_key":
            sent_as_it_is = hold_forever(self._secret(row), row.generation, self._clock)
            if sent_as_it_is.token == rejected:
                await self._key_refused(row)
            return sent_as_it_is
        for held in (self._held.get(key), await self._cached(key)):
            if held is not None and held.generation == row.generation and self._good(held, rejected):
                return held
        return None

    async def _cached(self, key: Key) -> Held | None:
        return from_cache(self._vault, *key, await self._cache.get(cache_key(key[1])), self._clock)

    async def _claim(self, row: Grant) -> Any | None:
        lease_s = self._endpoint(row).timeout_s + _CLAIM_SLACK_S
        try:
            return await self._grants.claim(row.org_id, row.grant_id, row.version, lease_s)
        except ConnectionError:
            return None

    async def _refresh(self, row: Grant, claim: Any) -> Held | None:
        """One call. None: the grant has moved on meanwhile, look again."""
        endpoint = self._endpoint(row)
        try:
            issued = await endpoint.refresh(self._secret(row))
        except GrantRefused:
            await self._refused(row, claim)
            return None
        except BaseException:
            self._observe(row.provider, "failed")
            await self._release(claim)
            raise
        self._observe(row.provider, "ok")
        return await self._finish(row, claim, issued)

    async def _finish(self, row: Grant, claim: Any, issued: Issued) -> Held | None:
        key = (row.org_id, row.grant_id)
        held = hold(issued.access_token, row.generation, issued.lifetime_s, issued.lifetime_s, self._clock)
        # Kept, but not handed out unlooked: the credentials may have been replaced while the call was out.
        held.checked_until = 0.0
        self._held[key] = held
        # The cache comes first: whoever sees the claim gone finds the token there.
        value = to_cache(self._vault, *key, row.generation, issued, self._clock.now())
        await self._cache.put(cache_key(row.grant_id), value, issued.lifetime_s - margin_s(issued.lifetime_s))
        return held if await self._store(row, claim, issued) else None

    async def _store(self, row: Grant, claim: Any, issued: Issued) -> bool:
        """Ends the claim. A new refresh token must not be lost: it is tried for a while."""
        sealed, mark = None, None
        if issued.refresh_token is not None:
            sealed = self._vault.seal_secret(row.org_id, row.grant_id, row.kind, issued.refresh_token)
            mark = self._vault.fingerprint(issued.refresh_token)
        expires_at = self._clock.now() + int(issued.lifetime_s * 1000)
        for pause_s in (0.2, 1.0, 3.0) if sealed else (0.0,):
            try:
                return await self._grants.finish(claim, access_expires_at=expires_at, sealed=sealed, fingerprint=mark)
            except ConnectionError:
                log.warning("the end of a refresh could not be stored", extra={"grant_id": row.grant_id})
                await asyncio.sleep(pause_s)
        return True

    async def _refused(self, row: Grant, claim: Any) -> None:
        """Its provider says the grant is dead. It is, unless its credentials were replaced while the call was out."""
        self._observe(row.provider, "refused")
        try:
            dead = await self._grants.refuse(claim, "revoked")
        except ConnectionError:
            message = "the store of authorisations is away"
            raise _failure(ErrorClass.INTERNAL, "grant_store_unavailable", message, retry_in_s=_STORE_RETRY_S) from None
        if not dead:
            return
        await self._cache.drop(cache_key(row.grant_id))
        if self._on_refused is not None:
            await self._on_refused(row.org_id, row.grant_id, row.version)
        # Only a token endpoint has a word for it; a key or a login is refused by a 401, or what counts as one.
        raise _reauthorise("invalid_grant" if row.kind == "refresh_token" else "401") from None

    async def _key_refused(self, row: Grant) -> NoReturn:
        """A key that is not taken is dead, for there is nothing to renew it with: only its owner can bring another.
        Whoever claims it first stops its connectors; if another key has come meanwhile, none is stopped."""
        claim = None
        with contextlib.suppress(ConnectionError):
            claim = await self._grants.claim(row.org_id, row.grant_id, row.version, _CLAIM_SLACK_S)
        if claim is not None:
            await self._refused(row, claim)
        raise _reauthorise()

    async def _release(self, claim: Any) -> None:
        try:
            await self._grants.release(claim)
        except ConnectionError:
            log.warning("a claim could not be given back; it ends with its lease")

    def _endpoint(self, row: Grant) -> TokenEndpoint:
        found = self._endpoints.get(row.provider)
        if found is None:
            raise _failure(
                ErrorClass.INTERNAL, "provider_not_configured", f"no token endpoint is set for {row.provider}"
            )
        return found

    def _secret(self, row: Grant) -> str:
        """The credential. A row that does not open is an alarm, and of no use to try again."""
        try:
            return secret_of(row.kind, self._vault.open(row.org_id, row.grant_id, row.key_id, row.ciphertext))
        except VaultError as error:
            log.error("a credential does not open: %s", error)
            code = "vault_unknown_key" if isinstance(error, UnknownKey) else "vault_tampered"
        except ValueError:
            code = "credential_unreadable"
        raise _failure(ErrorClass.INTERNAL, code, "the stored credential cannot be read")


def _start(tasks: dict[Key, asyncio.Task[Held]], key: Key, work: Any) -> asyncio.Task[Held]:
    """A task of its own context: it serves many requests, and outlives the one that started it."""
    task: asyncio.Task[Held] = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
    tasks[key] = task

    def end(done: asyncio.Task[Held]) -> None:
        del tasks[key]
        if not done.cancelled():
            done.exception()

    task.add_done_callback(end)
    return task


def _reauthorise(provider_code: str | None = None) -> ProviderError:
    message = "the authorisation has ended; connect the account again"
    failure = Failure(ErrorClass.AUTHORISATION, "reauthorise", message, retryable=False, provider_code=provider_code)
    return ProviderError(failure)


def _failure(error_class: ErrorClass, code: str, message: str, *, retry_in_s: float | None = None) -> ProviderError:
    return ProviderError(Failure(error_class, code, message, retry_in_s is not None, retry_after_s=retry_in_s))
