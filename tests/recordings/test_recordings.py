"""Recordings hold every row of the tables, the providers' own addresses and no secret; made again they are the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from tests.connectors.error_tables import CONNECTORS, TABLES
from tests.connectors.examples.case import GOOGLE_WORDS
from tests.recordings.record import DEVELOPER_TOKEN, main, record, stage, written
from tests.recordings.subjects import SUBJECTS

SECRET = re.compile(
    r"ya29\.[\w-]|EAA[\w-]|1//|sandbox-ttd-|sandbox-csv-|sandbox-secret|sandbox-naive|Bearer (?!\*)|[Ss]ignature=(?!\*)"
    rf"|access_token=(?!\*)|{DEVELOPER_TOKEN}"
)
"""What the sandbox's credentials look like, whoever made them."""


def test_every_adapter_is_recorded() -> None:
    assert set(SUBJECTS) == set(CONNECTORS)


@pytest.mark.parametrize("kind", SUBJECTS)
async def test_a_recording_is_whole_and_tells_no_secret(kind: str) -> None:
    lines = await record(kind)
    assert {line["outcome"] for line in lines if line["row"] is None} == {"ok"}
    outcomes = {line["row"]: line["outcome"] for line in lines if line["row"] is not None}
    assert outcomes == {number: row.code for number, row in enumerate(TABLES[kind], 1)}
    assert [line["row"] or 0 for line in lines] == sorted(line["row"] or 0 for line in lines)
    text = written(lines)
    assert not SECRET.search(text), SECRET.search(text)
    assert "127.0.0.1" not in text
    sent = {name: value for line in lines for name, value in line["headers"].items()}
    assert "***" in sent.values()
    assert all(json.loads(line) == given for line, given in zip(text.splitlines(), lines, strict=True))


def odd(answer: dict[str, Any]) -> Iterator[str]:
    """What in a refusal is not as Google's APIs write them: google/rpc/status.proto in its envelope, code.proto's
    words for the status, error_reason.proto's details."""
    try:
        body = json.loads(answer["body"])
    except ValueError:
        if "json" in answer["headers"].get("Content-Type", "") and answer["body"]:
            yield "called JSON, and is none"
        return
    error = (body[0] if isinstance(body, list) else body)["error"]
    if error["code"] != answer["status"]:
        yield f"code {error['code']}"
    if error["status"] not in {GOOGLE_WORDS[answer["status"]], "FAILED_PRECONDITION" * (answer["status"] == 400)}:
        yield f"status {error['status']}"
    for detail in error.get("details", ()):
        if "@type" not in detail or (detail["@type"].endswith("ErrorInfo") and not {"reason", "domain"} <= set(detail)):
            yield f"detail {detail}"
    for entry in error.get("errors", ()):
        if set(entry) != {"message", "domain", "reason"}:
            yield f"entry {entry}"


@pytest.mark.parametrize("kind", ["DV360", "GOOGLE_ADS", "SHEETS"])
async def test_refusals_are_written_as_google_writes_them(kind: str) -> None:
    refused = [line for line in await record(kind) if line["answer"]["status"] >= 400 and line["call"] != "download"]
    assert len(refused) > 15
    assert [(line["case"], said) for line in refused for said in odd(line["answer"])] == []
    streamed = {line["answer"]["body"][:1] for line in refused if line["call"] == "search_stream"}
    assert streamed <= {"[", "<", ""}


WHAT_SUCCEEDS = {
    "DV360": ["create", "run", "status", "download", "partners", "advertisers"],
    "GOOGLE_ADS": ["search_stream", "accessible"],
    "TTD": ["template", "schedule", "executions", "view", "graphql", "partners", "advertisers"],
    "SHEETS": ["read", "metadata", "append", "update"],
    "META": ["create", "status", "page", "sync", "accounts"],
}


@pytest.mark.parametrize("kind", WHAT_SUCCEEDS)
async def test_every_call_is_recorded_with_an_answer_that_succeeds(kind: str) -> None:
    happy = [line for line in await record(kind) if line["row"] is None]
    assert {line["answer"]["status"] for line in happy} == {200}
    assert {line["call"] for line in happy} == set(WHAT_SUCCEEDS[kind])


async def test_addresses_are_the_providers() -> None:
    lines = await record("DV360")
    hosts = {line["headers"]["Host"] for line in lines}
    assert hosts == {f"{name}.googleapis.com" for name in ("doubleclickbidmanager", "displayvideo", "storage")}
    reports = Settings.load({}).providers.dv360.reports_url
    assert {line["url"] for line in lines if line["call"] == "create"} == {f"{reports}queries"}
    started = next(
        line for line in lines if line["call"] == "run" and "googleCloudStoragePath" in line["answer"]["body"]
    )
    link = json.loads(started["answer"]["body"])["metadata"]["googleCloudStoragePath"]
    assert link.startswith("https://storage.googleapis.com/")


async def test_made_again_it_is_the_same() -> None:
    assert written(await record("META")) == written(await record("META"))


async def test_the_sandbox_answers_where_it_can_and_examples_where_it_cannot() -> None:
    lines = await record("TTD")
    by_row = {line["row"]: line for line in lines if line["row"] is not None}
    assert (by_row[1]["from"], by_row[1]["answer"]["headers"]["Retry-After"]) == ("sandbox", "60")
    assert by_row[6]["from"] == "example"
    assert by_row[6]["answer"]["status"] == 410
    before = [line for line in lines if line["row"] == 6 and line["call"] == "template"]
    assert [line["from"] for line in before] == ["sandbox"]


async def test_what_was_sent_is_there_to_be_hidden(tmp_path: Path) -> None:
    """The stage itself sees the token: were nothing starred, the pattern above would find it."""
    async with stage("TTD", tmp_path) as on:
        await on.fetch.run(SUBJECTS["TTD"].job())
        headers = dict(on.proxy.seen[0].headers)
        assert SECRET.search(headers["TTD-Auth"])
        assert on.real(headers["TTD-Auth"]) == "***"


def test_a_type_that_is_not_recorded_is_said_and_nothing_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ttd", "nope"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "nothing is recorded of NOPE; there are DV360" in shown.err
