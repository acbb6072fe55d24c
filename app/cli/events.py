"""``connector events``: what was published, read from Kafka without a group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from app.cli.environment import load_settings
from app.cli.failures import USAGE, CommandFailed
from app.cli.newest import Newest, tell_rest
from app.cli.output import AsJson, print_json_line, print_line, say
from app.cli.waiting import wait

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """What an event must have; None: whatever."""

    org_id: int | None
    type: str | None
    request_id: str | None
    connector_id: str | None

    def fits(self, event: Event) -> bool:
        wanted = {"org_id": self.org_id, "type": self.type}
        wanted |= {"request_id": self.request_id, "connector_id": self.connector_id}
        return all(value is None or event.get(name) == value for name, value in wanted.items())


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel="Look at the topics")(events)


def events(
    since: Annotated[str, typer.Option(help="From when on: 10m, 2h, 1d, or an ISO 8601 instant.")] = "1h",
    org: Annotated[int | None, typer.Option(min=1, help="Of this organisation only.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Of this type only, such as data_fetched.")] = None,
    request: Annotated[str | None, typer.Option(help="About this request only.")] = None,
    connector: Annotated[str | None, typer.Option(help="Of this connector only.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Print events, oldest first.

    Reads connector.events in no group, committed records only. With --json one decoded event a line.

    Example: connector events --since 10m --type data_fetched
    """
    from app.cli.times import past

    wanted = Filter(org, _type(event_type), _id("req", request), _id("conn", connector))
    newest, from_ms = Newest(limit, _printer(as_json=as_json)), past("--since", since)
    wait(_read(from_ms, wanted, newest, follow=follow))
    tell_rest(newest, "fitting event", from_ms)


def _type(name: str | None) -> str | None:
    from app.domain.commands import nearest
    from app.domain.events import EVENT_TYPES

    if name is not None and name not in EVENT_TYPES:
        raise CommandFailed(
            f"there is no event type {name!r}{nearest(name, EVENT_TYPES)}",
            advice=f"one of {', '.join(sorted(EVENT_TYPES))}",
            code=USAGE,
        )
    return name


def _id(prefix: str, text: str | None) -> str | None:
    from app.domain.identity import normalise

    found = None if text is None else normalise(prefix, text.strip().lower())
    if text is not None and found is None:
        raise CommandFailed(f"an id must be {prefix}_ and 32 hex digits, or a UUID", code=USAGE)
    return found


def _printer(*, as_json: bool) -> Callable[[Event], None]:
    from app.cli.following import now_ms
    from app.services.explain_events import event_line

    return print_json_line if as_json else lambda event: print_line(event_line(event, now_ms()))


async def _read(from_ms: int, wanted: Filter, newest: Newest, *, follow: bool) -> None:
    from app.streams.history import read_since
    from app.streams.kafka import broker_of
    from app.streams.topics import Names

    settings = load_settings()
    live = False

    def take(record: Any) -> None:
        event = _decoded(record)
        if event is None or not wanted.fits(event):
            return
        if live:
            newest.put(event)
        else:
            newest.take(record, event)

    def caught_up() -> None:
        nonlocal live
        newest.show()
        live = True

    topic = Names(settings.streams.topic_prefix).events
    await read_since(broker_of(settings), topic, from_ms, take, caught_up=caught_up, follow=follow)


def _decoded(record: Any) -> Event | None:
    """The event in its plain form, whatever its format; None, and a word about it, for what is none."""
    from app.streams.wire import Undecodable, decode_event, schema_text

    # The header names the schema itself, so that no registry has to be asked for what its id means.
    named = dict(record.headers).get("ce_dataschema") or b""
    fingerprint = named.decode("ascii", "replace").rpartition("/")[2]
    try:
        return decode_event(record.value, registry=lambda _id: schema_text(fingerprint))
    except Undecodable as wrong:
        say(f"{record.topic}/{record.partition} at {record.offset} is no event: {wrong.detail}")
        return None
