"""``python -m app.sandbox``: the simulator as a process. Its one line on stdout says where it listens."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from app.sandbox.dv360.state import Duration, Fixed, Lognormal, Polls, Quirks
from app.sandbox.quotas import QuotaRule
from app.sandbox.settings import CLIENT_ID, CLIENT_SECRET, QUOTAS, SandboxSettings, provider_env

if TYPE_CHECKING:
    from app.sandbox.server import Sandbox

log = logging.getLogger("sandbox")


def main(
    port: Annotated[int, typer.Option(help="Port of the APIs; 0 picks a free one.")] = 0,
    storage_port: Annotated[int, typer.Option(help="Port of the download links.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides figures, random durations and keys.")] = 1,
    report_seconds: Annotated[float, typer.Option(help="How long every report takes.")] = 1.5,
    report_polls: Annotated[int | None, typer.Option(help="Instead: ready at this status call.")] = None,
    report_median: Annotated[float | None, typer.Option(help="Instead: lognormal, median seconds.")] = None,
    report_sigma: Annotated[float, typer.Option(help="Spread of the lognormal durations.")] = 0.5,
    campaigns: Annotated[int, typer.Option(help="Campaigns of every advertiser and customer.", min=0, max=999_999)] = 5,
    advertisers: Annotated[int, typer.Option(help="Advertisers and customers in lists.")] = 3,
    expires_in: Annotated[int, typer.Option(help="Seconds an access token lives.")] = 3_599,
    link_seconds: Annotated[float, typer.Option(help="Seconds a download link lives.")] = 900.0,
    latency: Annotated[float, typer.Option(help="Seconds added to every call.")] = 0.0,
    quota: Annotated[list[str] | None, typer.Option(help="NAME=LIMIT, or NAME=none; may be repeated.")] = None,
    dialect: Annotated[str, typer.Option(help="429 or 403: how DV360 answers at a full quota.")] = "429",
    enforce: Annotated[bool, typer.Option(help="Refuse calls over a quota, or only count them.")] = True,
    quirk: Annotated[list[str] | None, typer.Option(help="dash, unknown or threshold; may be repeated.")] = None,
    log_file: Annotated[Path | None, typer.Option("--log", help="Append one JSON line per call here.")] = None,
) -> None:
    """Simulates DV360, Google Ads, Google Sheets, The Trade Desk, Meta, their token endpoints and a CSV server on two
    ports of 127.0.0.1."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings = SandboxSettings(
        seed=seed,
        port=port,
        storage_port=storage_port,
        report_duration=_duration(report_seconds, report_polls, report_median, report_sigma),
        campaigns=campaigns,
        advertisers=advertisers,
        expires_in=expires_in,
        link_seconds=link_seconds,
        latency_s=latency,
        quotas=with_limits(QUOTAS, quota or []),
        dialect=_dialect(dialect),
        enforce=enforce,
        quirks=_quirks(quirk or []),
        log=log_file,
    )
    asyncio.run(serve(settings))


def _duration(seconds: float, polls: int | None, median: float | None, sigma: float) -> Duration:
    if median is not None:
        return Lognormal(median, sigma)
    return Fixed(seconds) if polls is None else Polls(polls)


def _dialect(value: str) -> str:
    if value not in ("429", "403"):
        raise typer.BadParameter("the dialect is 429 or 403")
    return value


def _quirks(names: list[str]) -> Quirks:
    if unknown := set(names) - {"dash", "unknown", "threshold"}:
        raise typer.BadParameter(f"unknown quirk: {', '.join(sorted(unknown))}")
    return Quirks(**dict.fromkeys(names, True))


def with_limits(rules: tuple[QuotaRule, ...], changes: list[str]) -> tuple[QuotaRule, ...]:
    """The rules with limits replaced by ``NAME=LIMIT`` texts; BadParameter for an unknown name or a bad number."""
    limits: dict[str, int | None] = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in {rule.name for rule in rules} or not (value == "none" or value.isdigit()):
            raise typer.BadParameter(f"{change!r}; quotas are {', '.join(rule.name for rule in rules)}")
        limits[name] = None if value == "none" else int(value)
    return tuple(
        QuotaRule(one.name, one.group, one.scope, limits.get(one.name, one.limit), one.period_s, one.calendar_zone)
        for one in rules
    )


async def serve(settings: SandboxSettings) -> None:
    """Run until SIGTERM or SIGINT; prints the ready line when both ports listen."""
    # Here, not at the top: help shall not wait for aiohttp.
    from app.sandbox.server import start_sandbox

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stopping.set)
    running = await start_sandbox(settings)
    _announce(running)
    await stopping.wait()
    log.info("stopping after %d calls", running.world.log.last_sequence)
    await running.stop()


def _announce(running: Sandbox) -> None:
    ready = {
        "api_url": running.api_url,
        "storage_url": running.storage_url,
        "client_id": CLIENT_ID,
        "env": provider_env(running.api_url, running.storage_url, CLIENT_ID, CLIENT_SECRET),
    }
    sys.stdout.write(orjson.dumps(ready).decode() + "\n")
    sys.stdout.flush()
    log.info("APIs on %s, downloads on %s", running.api_url, running.storage_url)


if __name__ == "__main__":
    typer.run(main)
