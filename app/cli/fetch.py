"""``connector fetch``: asks for a report, shows what it would cost, or waits for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.cli.caller import Org
from app.cli.failures import NOT_FOUND, USAGE, CommandFailed
from app.cli.help import ASKS_REST
from app.cli.output import AsJson, print_json, print_lines, say
from app.cli.requests import tell_end
from app.cli.waiting import wait

if TYPE_CHECKING:
    from app.cli.caller import Caller
    from app.cli.service import Service

DAYS = 7
TABLE = "table"
"""The report of what has no days (Google Sheets)."""
Priority = Literal["premium", "normal", "scheduled", "backfill"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What was typed. ``body`` holds what needs no look at the connector."""

    connector: str | None
    connector_type: str | None
    account: str | None
    days: int | None
    range: Mapping[str, str] | None
    body: dict[str, Any] = field(default_factory=dict)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel="Fetch and follow", epilog=ASKS_REST)(fetch)


def fetch(
    connector: Annotated[str | None, typer.Option(help="Connector id; or name it by --type and --account.")] = None,
    connector_type: Annotated[str | None, typer.Option("--type", help="Connector type, such as DV360.")] = None,
    account: Annotated[str | None, typer.Option(help="The account's id at the provider.")] = None,
    report: Annotated[str, typer.Option(help="Report type.")] = "campaign_performance",
    days: Annotated[
        int | None, typer.Option(min=1, help="The last so many full days, ending yesterday; 7 without a range.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="First day, in the account's zone, such as 2026-09-01.")] = None,
    end: Annotated[str | None, typer.Option(help="Last day, included; yesterday without it.")] = None,
    fields: Annotated[
        str | None, typer.Option(help="Columns, or a table's ranges, comma separated; all without it.")
    ] = None,
    priority: Annotated[Priority, typer.Option(help="How urgent it is.")] = "normal",
    deadline: Annotated[str | None, typer.Option(help="Fails unless done by then: 30m, or an instant.")] = None,
    max_age: Annotated[str | None, typer.Option(help="Reuse only days fetched within this time, such as 2h.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch afresh whatever is held.")] = False,
    label: Annotated[
        list[str] | None, typer.Option(metavar="<name=value>", help="Given back in events; may be repeated.")
    ] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key again is the same request.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do, and do nothing.")] = False,
    wait_: Annotated[bool, typer.Option("--wait", help="Follow it to its end; 1 when it fails.")] = False,
    org: Org = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a report.

    Days that are held and young enough are not fetched again, overlapping requests share one fetch. With --wait the
    exit code is 0 when it is completed, 1 when it failed or was cancelled.

    Example: connector fetch --type DV360 --account 4567 --days 7 --wait
    """
    wish = Wish(connector, connector_type, account, days, _range(days, start, end), _body(
        report=report, fields=fields, priority=priority, deadline=deadline, max_age=max_age, force=force, labels=label,
    ))  # fmt: skip
    _named(wish)
    if dry_run:
        _tell_plan(wait(_plan(wish, org, idempotency_key)), as_json=as_json)
    else:
        tell(wait(_fetch(wish, org, idempotency_key, follow=wait_, as_json=as_json)), follow=wait_, as_json=as_json)


def _named(wish: Wish) -> None:
    if wish.connector is not None and (wish.connector_type or wish.account):
        raise CommandFailed("give --connector, or --type and --account, not both", code=USAGE)
    if not (wish.connector or wish.connector_type or wish.account):
        raise CommandFailed(
            "say what to fetch from: --connector, or --type and --account",
            advice="connector connectors list",
            code=USAGE,
        )


def _range(days: int | None, start: str | None, end: str | None) -> Mapping[str, str] | None:
    """What --start and --end say; without --end it ends yesterday, which only the account's zone knows."""
    from app.cli.times import day

    if days is not None and (start or end):
        raise CommandFailed("give --days, or --start and --end, not both", code=USAGE)
    if end is not None and start is None:
        raise CommandFailed("--end needs --start", code=USAGE)
    given = {name: day(f"--{name}", text).isoformat() for name, text in (("start", start), ("end", end)) if text}
    return given or None


def _body(
    *,
    report: str,
    fields: str | None,
    priority: str,
    deadline: str | None,
    max_age: str | None,
    force: bool,
    labels: list[str] | None,
) -> dict[str, Any]:
    from app.cli.times import future, seconds

    body: dict[str, Any] = {"report_type": report, "priority": priority}
    if fields is not None:
        body["fields"] = [name.strip() for name in fields.split(",") if name.strip()]
    if deadline is not None:
        body["deadline"] = future("--deadline", deadline)
    if max_age is not None:
        body["max_age_s"] = round(seconds("--max-age", max_age))
    if force:
        body["force"] = True
    if labels:
        body["labels"] = dict(map(_label, labels))
    return body


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise CommandFailed("--label is name=value", code=USAGE)
    return name, value


async def _plan(wish: Wish, org: int | None, key: str | None) -> dict[str, Any]:
    from app.cli.service import service

    async with service(org) as asked:
        return await asked.post("/fetch", await _command(asked, wish), key=key, dry_run="true")


async def _fetch(wish: Wish, org: int | None, key: str | None, *, follow: bool, as_json: bool) -> dict[str, Any]:
    from app.cli.service import service

    async with service(org) as asked:
        answer = await asked.post("/fetch", await _command(asked, wish), key=key)
        return await answered(asked, answer, follow=follow, as_json=as_json)


async def answered(asked: Service, answer: dict[str, Any], *, follow: bool, as_json: bool) -> dict[str, Any]:
    """What is told of a command: its answer, or how it ended where it is followed, or has ended already."""
    from app.cli import following
    from app.domain.lifecycle import TERMINAL

    if not follow and answer["status"] in TERMINAL and not as_json:
        # Answered from what is held: where the rows are is told with the state only.
        return await asked.get(f"/requests/{answer['request_id']}")
    if not follow:
        return answer
    if not as_json:
        say(f"request {answer['request_id']}; Ctrl-C stops the watching, not the request")
    show = following.shown(as_json=False, quiet=as_json)
    return await following.follow(asked, answer["request_id"], show)


async def _command(asked: Service, wish: Wish) -> dict[str, Any]:
    """The body to send. The connectors are asked for only where the wish does not say enough."""
    days = dict(wish.range or {})
    dated = bool(days or wish.days) or wish.body["report_type"] != TABLE
    connector_id = None if wish.connector is None else connector_id_of(wish.connector)
    if connector_id is None or (dated and "end" not in days):
        found = _one(await asked.get(), wish, connector_id, asked.caller)
        connector_id = found["id"]
        days = _days(days, wish.days or DAYS, found.get("time_zone") or "UTC")
    return {"connector_id": connector_id, **({"date_range": days} if dated else {}), **wish.body}


def _days(given: Mapping[str, str], number: int, time_zone: str) -> dict[str, str]:
    from app.cli.times import last_days

    first, last = last_days(number, time_zone, datetime.now(UTC))
    return {"start": first.isoformat(), "end": last.isoformat(), **given}


def connector_id_of(text: str) -> str:
    """A typed id in its one form. Raises ``CommandFailed``."""
    from app.domain.identity import normalise

    found = normalise("conn", text.strip().lower())
    if found is None:
        raise CommandFailed("a connector id is conn_ and 32 hex digits, or a UUID", code=USAGE)
    return found


def _one(body: Mapping[str, Any], wish: Wish, connector_id: str | None, caller: Caller) -> Mapping[str, Any]:
    """The connector that is meant."""
    kind = None if wish.connector_type is None else wish.connector_type.upper()
    found = [
        one
        for one in body["connectors"]
        if connector_id in (None, one["id"]) and kind in (None, one["type"]) and _is_account(wish.account, one)
    ]
    if len(found) == 1:
        chosen: Mapping[str, Any] = found[0]
        return chosen
    if not found:
        # The list is another organisation's unless it is told which.
        theirs = "" if caller.given or caller.org_id in (None, 1) else f" --org {caller.org_id}"
        advice = f"connector connectors list{theirs}"
        raise CommandFailed(f"there is no connector {_meant(wish)}", advice=advice, code=NOT_FOUND)
    listed = "".join(f"\n  {one['type']} {one['account_id']}  {one['id']}" for one in found[:10])
    raise CommandFailed(f"{len(found)} connectors fit; name one:{listed}", advice="the same with --account", code=USAGE)


def _is_account(given: str | None, connector: Mapping[str, Any]) -> bool:
    """Whether an account is that of a connector, however the provider shows it."""
    from app.services.connectors import kept_account_id

    return given is None or kept_account_id(connector["type"], given) == connector["account_id"]


def _meant(wish: Wish) -> str:
    return wish.connector or " ".join(part for part in (wish.connector_type, wish.account) if part)


def _tell_plan(body: dict[str, Any], *, as_json: bool) -> None:
    from app.cli.following import now_ms
    from app.services.explain_plan import planned

    if as_json:
        print_json(body)
    else:
        print_lines(planned(body, now_ms()))


def tell(body: dict[str, Any], *, follow: bool, as_json: bool) -> None:
    """Prints what ``answered`` gave."""
    from app.cli.following import now_ms
    from app.cli.words import lines
    from app.domain.lifecycle import TERMINAL

    if as_json:
        print_json(body)
    if follow:
        tell_end(body, as_json=as_json)
    elif not as_json:
        print_lines(lines(body, now_ms()))
        if body["status"] not in TERMINAL:
            say(f"next:  connector watch {body['request_id']}")
