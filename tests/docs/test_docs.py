"""Every command that the README and the how-to pages show works as it is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.commands import Unmarked, commands_of
from tests.docs.run import pages, run
from tests.docs.terminal import Failed

SELF = frozenset({"make test"})
"""This test is a part of it."""


STORY = (
    "place 1 of its queue", "waits for quota", r"answers [4-8] requests", "without a provider call",
    "first 429 at its call", "First rows of bat_", "Try next:", "is stopped",
)  # fmt: skip
"""What ``make demo`` must tell. How many of eight requests are in time for one fetch depends on the machine."""


@pytest.mark.timeout(300)
def test_every_command_of_the_pages_works() -> None:
    found = [command for page in pages() for command in commands_of(page)]
    printed = run(found, without=SELF)
    assert len(printed) == len([c for c in found if c.text not in SELF]) > 8
    story = next(text for command, text in printed.items() if command.text == "make demo")
    assert "\x1b" not in story, "piped, it is plain lines"
    for part in STORY:
        assert re.search(part, story), (part, story)


def test_a_page_is_cut_into_its_commands(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    block = "# a comment\nfirst\n\nsecond \\\n  goes on\ncat <<'END'\nfirst\nEND\n"
    page.write_text(f"text\n```sh\n{block}```\n```text\nnot this\n```\n")
    assert [(c.line, c.text) for c in commands_of(page)] == [
        (4, "first"),
        (6, "second \\\n  goes on"),
        (8, "cat <<'END'\nfirst\nEND"),
    ]


def test_a_block_must_say_what_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```\nrm -rf build\n```\n")
    with pytest.raises(Unmarked, match=r"page\.md:1"):
        commands_of(page)


def test_a_command_that_fails_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('```sh\nNAME=x\ntest "$NAME" = x\ntest "$NAME" = y\n```\n')
    with pytest.raises(Failed, match='ended with 1: test "\\$NAME" = y'):
        run(commands_of(page), tell=lambda _line: None)
