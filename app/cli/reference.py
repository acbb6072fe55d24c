"""docs/reference/cli.md, drawn from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_HEAD = """\
# Command line

`connector COMMAND`, drawn from `app/cli`; `connector COMMAND --help` says the same. `--json` is for programs, and piped
output has no colour. What was asked for goes to standard output; hints, and why something else was read instead, go to
standard error.

| exit code | meaning |
|---|---|
| 0 | ok; for `watch` and `fetch --wait` the request is completed |
| 1 | failed |
| 2 | usage: the command, or what it asks for, is wrong |
| 3 | not ready: a server does not answer, or asks to be asked later |
| 4 | not found |
| 78 | the settings are wrong |
| 130 | ended by Ctrl-C |

An error is one sentence; where a command helps on, it stands on the line below. `CONNECTOR_DEBUG=1` shows the traceback
instead. Times are UTC.

Commands that ask REST find it at `CONNECTOR_URL`, else where the settings or the local stack say. They send the token
`CONNECTOR_TOKEN`; without it the local stack's issuer signs one for `--org`.
"""


def markdown() -> str:
    """The page."""
    import typer.main

    from app.cli import app

    root: Any = typer.main.get_command(app)
    lines = [_HEAD, "## Options of `connector`", "", *_options(root)]
    panels = dict.fromkeys(command.rich_help_panel for command in root.commands.values())
    for panel in panels:
        lines += [f"## {panel}", ""]
        for name, command in root.commands.items():
            lines += _of(f"connector {name}", command) if command.rich_help_panel == panel else ()
    return "\n".join(lines).rstrip("\n") + "\n"


def _of(path: str, command: Any) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner is not None:
        for name in inner:
            yield from _of(f"{path} {name}", inner[name])
        return
    text, _, example = command.help.partition("Example: ")
    yield from (f"### `{path}`", "", " ".join(text.split("\n\n")[0].split()))
    for paragraph in text.split("\n\n")[1:]:
        if paragraph.strip():
            yield from ("", " ".join(paragraph.split()))
    yield from ("", "```text", " ".join(example.split()), "```", "")
    yield from _options(command)


def _options(command: Any) -> Iterator[str]:
    rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
    if rows:
        yield from ("| argument or option | default | meaning |", "|---|---|---|", *rows, "")


def _row(parameter: Any) -> str:
    argument = parameter.param_type_name == "argument"
    names = parameter.name.upper() if argument else ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.metavar and not argument:
        names += f" {parameter.metavar}"
    meaning = " ".join(_meaning(parameter)).replace("|", "\\|")
    return f"| `{names}` | {_default(parameter)} | {meaning} |"


def _meaning(parameter: Any) -> Iterator[str]:
    if parameter.help:
        yield parameter.help
    choices = parameter.type_descriptor.choices
    if choices:
        yield f"One of {', '.join(map(str, choices))}."
    if parameter.envvar:
        yield f"Environment: `{parameter.envvar}`."


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default in (None, False, ()):
        return ""
    return f"`{parameter.opts[0] if parameter.default is True else parameter.default}`"
