"""Recordings of what each adapter says to its provider and hears: `make record` writes build/recordings/<type>.jsonl.

One fetch that succeeds and what else an adapter does (list accounts, write), then each row of the error table: by the
sandbox's own refusals where it has one, by the row's example where it has none. One line for each exchange: method,
URL, query, headers, body and the answer, with the provider's own address in place of the sandbox's and stars in place
of secrets. Made again it is the same.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from yarl import URL

from app.config import Settings
from app.connectors.failures import starred
from app.domain.errors import ProviderError
from app.sandbox.clock import Instant
from app.sandbox.settings import CLIENT_SECRET, NAIVE_CLIENT_SECRET, provider_env
from tests.connectors.error_tables import TABLES, decided, examples
from tests.connectors.examples.case import Case
from tests.connectors.rig import SandboxFetch, sandboxed
from tests.recordings.proxy import Exchange, Proxy
from tests.recordings.subjects import SUBJECTS, Subject

FOLDER = Path(__file__).parents[2] / "build" / "recordings"
NOON = Instant(datetime(2026, 11, 15, 12, tzinfo=UTC).timestamp(), 0.0)
DEVELOPER_TOKEN = "sandbox-developer-token"
UNNAMED, UNNAMED_STORAGE = "https://csv-server.example/", "https://download-host.example"
"""In place of an address that is a setting without a default."""

_SECRET_HEADERS = frozenset({"authorization", "ttd-auth", "developer-token", "cookie", "set-cookie"})
_SECRET_QUERY = frozenset({"signature", "access_token", "x-goog-signature", "googleaccessid"})
_OWN_HEADERS = frozenset({"date", "server"})
"""Of the sandbox's server and the minute."""


@dataclass
class Stage:
    """An adapter whose calls go through a recording proxy to a sandbox of its own."""

    fetch: SandboxFetch
    proxy: Proxy
    places: list[tuple[str, str]]
    secrets: list[str]

    def real(self, text: str) -> str:
        """The text with the provider's addresses and without secrets."""
        for ours, theirs in self.places:
            text = text.replace(ours, theirs)
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return starred(text)


@asynccontextmanager
async def stage(kind: str, folder: Path) -> AsyncIterator[Stage]:
    """``kind`` on a stage: a fresh sandbox at a fixed time, which counts calls and refuses none for their number."""
    proxy = Proxy(SUBJECTS[kind].patterns())
    developer = {"CONNECTOR__PROVIDERS__GOOGLE_ADS__DEVELOPER_TOKEN": DEVELOPER_TOKEN}
    async with (
        sandboxed(kind, folder, clock=lambda: NOON, enforce=False) as fetch,
        proxy.before(fetch.sandbox.api_url) as api,
        proxy.before(fetch.sandbox.storage_url) as storage,
    ):
        fetch.more = provider_env(api, storage) | developer
        fetch.sandbox.world.api_url, fetch.sandbox.world.storage_url = api, storage
        secrets = [*fetch.tokens.tokens, fetch.sandbox.refresh_token("ana")]
        secrets += [CLIENT_SECRET, NAIVE_CLIENT_SECRET, DEVELOPER_TOKEN]
        places = [*_places(fetch.settings, kind), (storage, _storage_of(kind))]
        yield Stage(fetch, proxy, places, sorted(set(secrets), key=len, reverse=True))


def _places(settings: Settings, kind: str) -> list[tuple[str, str]]:
    """(address in use, the provider's own), the longest first, which may begin with a shorter one."""
    used, real = settings.providers.of(kind), Settings.load({}).providers.of(kind)
    found = [
        (value, getattr(real, name) or UNNAMED)
        for name, value in dict(used).items()
        if name.endswith("_url") and isinstance(value, str) and value != getattr(real, name)
    ]
    return sorted(found, key=lambda pair: len(pair[0]), reverse=True)


def _storage_of(kind: str) -> str:
    hosts = Settings.load({}).providers.of(kind).download_hosts
    return f"https://{hosts[0]}" if hosts else UNNAMED_STORAGE


async def record(kind: str) -> list[dict[str, Any]]:
    """The lines of one connector type: what succeeds, then its error cases in the order of the table."""
    subject = SUBJECTS[kind]
    apart = {make: call for call, make in subject.apart.items()}
    happy = [line for call in ("", *apart.values()) for line in await _run(kind, subject, call, None)]
    for form in subject.forms:
        happy += await _run(kind, subject, "", None, form)
    by_row: dict[int, list[dict[str, Any]]] = {}
    for route, fault in subject.faults:
        found = await _run(kind, subject, route.rpartition(".")[2], (route, fault))
        by_row.setdefault(found[-1]["row"], found)
    for case in examples(kind).CASES:
        if (row := decided(kind, case) + 1) not in by_row:
            by_row[row] = await _run(kind, subject, case.call, case)
    return [*happy, *(line for _, lines in sorted(by_row.items()) for line in lines)]


async def _run(
    kind: str, subject: Subject, call: str, wrong: tuple[str, str] | Case | None, form: str = ""
) -> list[dict[str, Any]]:
    form = form or subject.form_of.get(call, "")
    with tempfile.TemporaryDirectory() as folder:
        async with stage(kind, Path(folder)) as on:
            on.fetch.more |= subject.forms.get(form, subject.usual)
            subject.prepare(on.fetch.sandbox.world, "signed" if call == "download" else call)
            if isinstance(wrong, Case):
                on.proxy.canned = wrong
            elif wrong is not None:
                on.fetch.sandbox.faults.add(*wrong)
            code = await _outcome(on, subject, call)
            row = _row(kind, on.proxy.seen) if wrong is not None else None
            if row is not None and TABLES[kind][row - 1].code != code:
                raise AssertionError(f"{kind}, {_title(call, wrong)}: {code}, and not what row {row} says")
            about = {
                "type": kind,
                "case": (form if wrong is None else "") or _title(call, wrong),
                "row": row,
                "outcome": code,
            }
            return [about | line for line in _lines(on)]


def _title(call: str, wrong: tuple[str, str] | Case | None) -> str:
    if wrong is None:
        return call or "a fetch"
    return f"{wrong.call} refused: {wrong.code}" if isinstance(wrong, Case) else f"{wrong[0]} {wrong[1]}"


async def _outcome(on: Stage, subject: Subject, call: str) -> str:
    """``ok``, or the code of the failure."""
    job = subject.job()
    if (make := subject.apart.get(call)) is not None:
        try:
            await make(on.fetch.connector, on.fetch.calls(job))
        except ProviderError as error:
            return error.failure.code
        return "ok"
    outcome = await on.fetch.run(job)
    return outcome.failure.code if outcome.failure is not None else "ok"


def _row(kind: str, seen: Sequence[Exchange]) -> int:
    """Which row, counted from 1, decides the refusal: the last example, or without one the last answer. An adapter may
    look around after a refusal. A run that failed says so with a success."""
    last = next((one for one in reversed(seen) if one.canned), seen[-1])
    call = "run" if last.call == "status" and b"Job Failed" in last.answer else last.call
    return decided(kind, Case("", call, last.status, last.answer)) + 1


def _lines(on: Stage) -> Iterator[dict[str, Any]]:
    for one in on.proxy.seen:
        url = URL(on.real(one.url))
        query = {name: "***" if name.lower() in _SECRET_QUERY else on.real(value) for name, value in url.query.items()}
        yield {
            "from": "example" if one.canned else "sandbox",
            "call": one.call,
            "method": one.method,
            "url": str(url.with_query(None)),
            "query": query,
            "headers": _headers(on, one.headers, str(url.host)),
            "body": on.real(one.body.decode()),
            "answer": {
                "status": one.status,
                "headers": _headers(on, one.answer_headers, ""),
                "body": on.real(one.answer.decode()),
            },
        }


def _headers(on: Stage, headers: Sequence[tuple[str, str]], host: str) -> dict[str, str]:
    told = {name: on.real(value) for name, value in headers if name.lower() not in _OWN_HEADERS}
    stars = {name: "***" for name in told if name.lower() in _SECRET_HEADERS}
    return told | stars | ({"Host": host} if "Host" in told else {})


def written(lines: Sequence[dict[str, Any]]) -> str:
    """JSON lines."""
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def main(kinds: Sequence[str]) -> int:
    logging.getLogger("app").addHandler(logging.NullHandler())
    FOLDER.mkdir(parents=True, exist_ok=True)
    kinds = [kind.upper() for kind in kinds]
    if unknown := [kind for kind in kinds if kind not in SUBJECTS]:
        sys.stderr.write(f"nothing is recorded of {', '.join(unknown)}; there are {', '.join(SUBJECTS)}\n")
        return 2
    for kind in kinds or SUBJECTS:
        lines = asyncio.run(record(kind))
        path = FOLDER / f"{kind.lower()}.jsonl"
        path.write_text(written(lines), encoding="utf-8")
        rows = {line["row"]: line["from"] for line in lines if line["row"]}
        sandbox = sum(source == "sandbox" for source in rows.values())
        print(
            f"{path.relative_to(Path.cwd())}: {len(lines)} calls; {len(rows)} of {len(TABLES[kind])} rows, "
            f"{sandbox} of them as the sandbox refuses"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
