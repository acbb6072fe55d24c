"""``connector dlq``: records that were put aside, with the reasons, read from Kafka without a group."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from app.cli.environment import load_settings
from app.cli.newest import Newest, tell_rest
from app.cli.output import AsJson, print_json_line, print_lines
from app.cli.waiting import wait

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at records that were put aside.")
SHOWN = 200
"""Characters of a value that are shown."""
Letter = dict[str, Any]


@app.command("list")
def list_(
    since: Annotated[str, typer.Option(help="From when on: 10m, 2h, 1d, or an ISO 8601 instant.")] = "7d",
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
    code: Annotated[str | None, typer.Option(help="With this error code only, such as malformed_json.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print records that were put aside, oldest first.

    Reads connector.dlq in no group: when and why, where the record was, its key and the beginning of its value, as text
    or in hex. With --json one a line.

    Example: connector dlq list --since 1d --code malformed_json
    """
    from app.cli.times import past

    newest, from_ms = Newest(limit, print_json_line if as_json else _print), past("--since", since)
    wait(_read(from_ms, code, newest))
    tell_rest(newest, "record put aside" + ("" if code is None else f" with code {code}"), from_ms)


async def _read(from_ms: int, code: str | None, newest: Newest) -> None:
    from app.streams.history import read_since
    from app.streams.kafka import broker_of
    from app.streams.topics import Names

    def take(record: Any) -> None:
        told = letter(record)
        if code in (None, told["error_code"]):
            newest.take(record, told)

    settings = load_settings()
    await read_since(broker_of(settings), Names(settings.streams.topic_prefix).dlq, from_ms, take)
    newest.show()


def letter(record: Any) -> Letter:
    """A dead letter as plain values; what its headers do not say is None. Never fails: nothing of it can be trusted."""
    said = {str(name): _text(content) for name, content in record.headers or ()}
    value: bytes | None = record.value
    text, encoding = _beginning(value)
    return {
        "failed_at": said.get("failed_at"),
        "error_code": said.get("error_code"),
        "error_detail": said.get("error_detail"),
        "source_topic": said.get("source_topic"),
        "source_partition": _number(said.get("source_partition")),
        "source_offset": _number(said.get("source_offset")),
        "key": None if record.key is None else _beginning(record.key)[0],
        "value": text,
        "encoding": encoding,
        "size_bytes": None if value is None else len(value),
        "partition": record.partition,
        "offset": record.offset,
    }


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", "replace")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _beginning(value: bytes | None) -> tuple[str | None, str | None]:
    """The first characters and how they are written: ``text`` or ``hex``."""
    if value is None:
        return None, None
    try:
        # Not final: where the value is cut within a character, these are no odd bytes.
        decoder = codecs.getincrementaldecoder("utf-8")()
        text = decoder.decode(value[: 4 * SHOWN], final=len(value) <= 4 * SHOWN)[:SHOWN]
    except UnicodeDecodeError:
        text = "\0"
    if all(character.isprintable() or character in "\r\n\t" for character in text):
        return text, "text"
    return value[: SHOWN // 2].hex(), "hex"


def _print(told: Letter) -> None:
    print_lines(_lines(told))


def _lines(told: Letter) -> Iterable[str]:
    said = {name: "-" if value is None else value for name, value in told.items()}
    where = f"{said['source_topic']}/{said['source_partition']} at {said['source_offset']}"
    key = "no key" if told["key"] is None else f"key {told['key']}"
    yield f"{said['failed_at']}  {said['error_code']}  {where}  {key}"
    yield f"    {said['error_detail']}"
    if told["value"] is None:
        yield "    no value"
    else:
        named = "0x" if told["encoding"] == "hex" else ""
        shorter = len(told["value"]) < (told["size_bytes"] or 0) * (2 if named else 1)
        yield f"    {named}{' '.join(told['value'].split())}{' ...' if shorter else ''}  ({told['size_bytes']} bytes)"
