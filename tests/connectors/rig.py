"""Steps of a fetch as a worker runs them: against a handler of the test's own, or against the sandbox with the adapter
and hosts that the settings make."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

import aiohttp
import pyarrow.parquet as pq

from app.config import Settings
from app.connectors.base import Limits, ProviderHttp
from app.connectors.registry import connectors_of, hosts_of
from app.connectors.session import provider_session
from app.domain.errors import Failure
from app.domain.messages import Offer, StepOutcome
from app.ports import Calls, Connector, Kept
from app.sandbox.clock import Clock, system_clock
from app.sandbox.dv360.state import Fixed
from app.sandbox.fixture import RunningSandbox, running_sandbox
from app.sandbox.settings import SandboxSettings
from app.services.connectors import PROVIDER_OF
from app.services.fetching import run_step
from app.storage.results import ObjectResultStore
from tests.connectors.support import CountingPermits, Setting, TestClock, Tokens

LAST = datetime.now(UTC).date() - timedelta(days=10)
FIRST = LAST - timedelta(days=6)
C = TypeVar("C", bound=Connector)


async def one_step(
    job: Offer, connector: Connector, calls: Calls, folder: Path, clock: TestClock, permits: CountingPermits
) -> StepOutcome:
    """The step, after which every permit is back."""
    results = ObjectResultStore(f"file://{folder}")
    outcome = await run_step(job, connector=connector, calls=calls, results=results, clock=clock, worker="w1")
    assert outcome is not None
    assert permits.outstanding == []
    return outcome


def rows_of(outcome: StepOutcome) -> list[dict[str, Any]]:
    """The rows of the file that was stored."""
    assert outcome.failure is None
    assert outcome.file is not None
    found: list[dict[str, Any]] = pq.read_table(outcome.file.uri.removeprefix("file://")).to_pylist()
    return found


def parquet_files(folder: Path) -> list[Path]:
    return list(folder.rglob("*.parquet"))


@dataclass
class LocalFetch(Generic[C]):
    """Steps against a handler of the test's own; ``default`` makes the offer where a test names none."""

    setting: Setting
    folder: Path
    connector: C
    default: Callable[[], Offer]

    async def run(self, job: Offer | None = None) -> StepOutcome:
        """One step."""
        setting = self.setting
        return await one_step(
            job or self.default(), self.connector, setting.calls, self.folder, setting.clock, setting.permits
        )

    async def rows(self, job: Offer | None = None) -> list[dict[str, Any]]:
        """The rows of the file it stores."""
        return rows_of(await self.run(job))

    async def failure(self, job: Offer | None = None) -> Failure:
        """How it fails; nothing may be left of it, and nothing secret may be in it."""
        outcome = await self.run(job)
        assert outcome.failure is not None
        assert outcome.file is None
        assert parquet_files(self.folder) == []
        assert "canary" not in repr(outcome)
        return outcome.failure


@dataclass
class SandboxFetch:
    """Fetches of one connector type against the sandbox. ``more`` goes over the environment that the sandbox names;
    ``kept`` is what its workers share, each step being another's."""

    kind: str
    sandbox: RunningSandbox
    session: aiohttp.ClientSession
    tokens: Tokens
    folder: Path
    limits: Limits
    permits: CountingPermits
    clock: TestClock
    more: dict[str, str]
    kept: Kept | None = None

    @property
    def settings(self) -> Settings:
        return Settings.load(self.sandbox.env | self.more)

    @property
    def connector(self) -> Connector:
        return connectors_of(self.settings, self.kept)[self.kind]

    def calls(self, job: Offer) -> ProviderHttp:
        hosts = hosts_of(self.settings)[job.connector.connector_type]
        return ProviderHttp(
            session=self.session, permits=self.permits, tokens=self.tokens, clock=self.clock, offer=job, hosts=hosts,
            limits=self.limits, usage=self.connector.usage,
        )  # fmt: skip

    async def step(self, job: Offer) -> StepOutcome:
        outcome = await one_step(job, self.connector, self.calls(job), self.folder, self.clock, self.permits)
        assert not any(token in repr(outcome) for token in self.tokens.tokens)
        return outcome

    async def run(self, job: Offer, polls: int = 9) -> StepOutcome:
        """The first step, then polls until something other than *running* comes back."""
        outcome = await self.step(job)
        for _ in range(polls):
            if outcome.remote is None:
                break
            job = replace(job, step="poll", remote=outcome.remote)
            outcome = await self.step(job)
        return outcome

    async def rows(self, job: Offer) -> list[dict[str, Any]]:
        """The rows of the file that a whole fetch stores."""
        return rows_of(await self.run(job))


@asynccontextmanager
async def sandboxed(
    kind: str,
    folder: Path,
    *,
    limits: Limits | None = None,
    more: dict[str, str] | None = None,
    clock: Clock = system_clock,
    **settings: Any,
) -> AsyncIterator[SandboxFetch]:
    """A sandbox of these ``settings`` whose reports are ready at once, and fetches of type ``kind`` against it."""
    known: dict[str, Any] = {"report_duration": Fixed(0.0)}
    async with (
        running_sandbox(SandboxSettings(**(known | settings)), clock) as sandbox,
        provider_session(["127.0.0.1"]) as session,
    ):
        own = TestClock()
        tokens = Tokens(await tokens_of(kind, sandbox))
        permits = CountingPermits(own)
        yield SandboxFetch(kind, sandbox, session, tokens, folder, limits or Limits(), permits, own, dict(more or {}))
        assert sandbox.world.ttd.ignored == set(), "a property that the provider ignores was sent"


async def tokens_of(kind: str, sandbox: RunningSandbox, *, user: str = "ana") -> tuple[str, str]:
    """Two tokens of a user."""
    match PROVIDER_OF[kind]:
        case "google":
            return (await google_token(sandbox, user), await google_token(sandbox, user))
        case "meta":
            return (sandbox.meta_token(user), sandbox.meta_token(user))
        case "csv_https":
            return (sandbox.csv_token(user), sandbox.csv_token(user))
    return (sandbox.ttd_token(user), sandbox.ttd_token(user))


async def google_token(sandbox: RunningSandbox, user: str = "ana") -> str:
    google = Settings.load(sandbox.env).providers.google
    form = {
        "grant_type": "refresh_token",
        "refresh_token": sandbox.refresh_token(user),
        "client_id": google.client_id,
        "client_secret": google.client_secret.get_secret_value(),
    }
    async with aiohttp.ClientSession() as session, session.post(str(google.token_url), data=form) as answer:
        token = (await answer.json(content_type=None))["access_token"]
        assert isinstance(token, str)
        return token
