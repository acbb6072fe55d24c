"""The schemas as a contract: each against its last release both ways, golden bytes, and the reference page."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import avro.compatibility
import avro.schema
import pytest

from app.domain.commands import CANCEL_FIELDS, FETCH_FIELDS, WRITE_FIELDS, FetchCommand, parse
from app.domain.events import EVENT_TYPES
from app.streams.avro_schemas import FOLDER, by_fingerprint, current, event_records, load
from app.streams.wire import decode_command, encode_avro, encode_json

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("test_schemas_golden")
REFERENCE = ROOT / "docs" / "reference" / "records.md"
NAMES = ("CancelCommand", "ConnectorEvent", "FetchCommand", "WriteCommand")
RELEASED = sorted(FOLDER.glob("released/*/*.avsc"))
ALL = [*sorted(FOLDER.glob("*.avsc")), *RELEASED]


def raw(name: str) -> dict[str, Any]:
    return dict(json.loads(current()[name].text))


def compatible(reader: dict[str, Any], writer: dict[str, Any]) -> bool:
    checker = avro.compatibility.ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    verdict = checker.get_compatibility(avro.schema.parse(json.dumps(reader)), avro.schema.parse(json.dumps(writer)))
    return bool(verdict.compatibility is avro.compatibility.SchemaCompatibilityType.compatible)


def last_release(name: str) -> dict[str, Any]:
    versions = sorted(FOLDER.glob(f"released/*/{name}.avsc"), key=lambda path: int(path.parent.name))
    return dict(json.loads(versions[-1].read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", NAMES)
def test_todays_schema_and_the_last_release_read_each_other(name: str) -> None:
    assert compatible(reader=raw(name), writer=last_release(name))
    assert compatible(reader=last_release(name), writer=raw(name))


def test_the_gate_lets_a_new_optional_field_through_and_stops_a_required_one() -> None:
    old = raw("FetchCommand")
    optional, required, gone = copy.deepcopy(old), copy.deepcopy(old), copy.deepcopy(old)
    optional["fields"].append({"name": "extra", "type": ["null", "string"], "default": None})
    required["fields"].append({"name": "extra", "type": "string"})
    gone["fields"] = [field for field in old["fields"] if field["name"] != "org_id"]
    assert compatible(reader=optional, writer=old)
    assert compatible(reader=old, writer=optional)
    assert not compatible(reader=required, writer=old)
    assert not compatible(reader=old, writer=gone)


def test_every_record_is_there_and_was_released() -> None:
    assert tuple(current()) == NAMES
    assert {path.stem for path in RELEASED} == set(NAMES)


def test_a_name_and_a_version_mean_one_text() -> None:
    """Fingerprints are blind to defaults, words and logical types; so whoever changes those counts the version up."""
    texts: dict[tuple[str, int], Any] = {}
    for path in ALL:
        text = json.loads(path.read_text(encoding="utf-8"))
        assert texts.setdefault((text["name"], text["version"]), text) == text, path


def test_a_fingerprint_means_one_way_of_reading() -> None:
    readings: dict[str, Any] = {}
    for path in ALL:
        schema = load(path.read_text(encoding="utf-8"))
        reading = without_words(json.loads(schema.text))
        assert readings.setdefault(schema.fingerprint, reading) == reading, path
    assert set(readings) == set(by_fingerprint())


def without_words(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: without_words(value) for key, value in schema.items() if key not in ("doc", "version")}
    return [without_words(part) for part in schema] if isinstance(schema, list) else schema


def records_of(schema: Any) -> dict[str, dict[str, Any]]:
    """Every record defined anywhere in a schema, by name, in order."""
    if isinstance(schema, list):
        return {name: record for part in schema for name, record in records_of(part).items()}
    if not isinstance(schema, dict):
        return {}
    own = {schema["name"]: schema} if schema.get("type") == "record" else {}
    parts = [field["type"] for field in schema.get("fields", ())] + [schema.get("items"), schema.get("values")]
    inner = schema["type"] if not isinstance(schema["type"], str) else None
    return own | records_of([*parts, inner])


def test_a_record_that_two_schemas_define_is_the_same_in_both() -> None:
    seen: dict[str, Any] = {}
    for name in NAMES:
        for record, definition in records_of(raw(name)).items():
            assert seen.setdefault(record, definition) == definition
    assert "DateRange" in seen


def test_every_field_says_what_it_is() -> None:
    for name in NAMES:
        for record in records_of(raw(name)).values():
            assert record["doc"].endswith(".")
            assert all(field["doc"].endswith(".") for field in record["fields"])


def test_optional_fields_are_null_first_and_null_by_default() -> None:
    for name in NAMES:
        for record in records_of(raw(name)).values():
            for field in record["fields"]:
                union = field["type"]
                if isinstance(union, list) and "null" in union:
                    assert (union[0], field.get("default", ...)) == ("null", None), field["name"]


def test_the_fields_that_parse_knows_are_those_of_the_schemas() -> None:
    for name, known in (
        ("FetchCommand", FETCH_FIELDS),
        ("WriteCommand", WRITE_FIELDS),
        ("CancelCommand", CANCEL_FIELDS),
    ):
        assert {"type", *(field["name"] for field in raw(name)["fields"])} == set(known)


def test_there_is_one_data_record_for_every_event_type() -> None:
    assert set(event_records(current()["ConnectorEvent"])) == set(EVENT_TYPES)


def golden(name: str) -> bytes:
    text = (GOLDEN / name).read_text(encoding="utf-8")
    return bytes.fromhex(text) if name.endswith(".hex") else text.encode()


@pytest.mark.parametrize("name", ["fetch.avro.hex", "fetch.confluent.hex", "fetch.json"])
def test_bytes_written_by_the_first_release_are_read_for_ever(name: str) -> None:
    command = parse(decode_command(golden(name), registry=lambda _id: json.dumps(last_release("FetchCommand"))))
    digits = "0190a1b2c3d47e5f8a9b0c1d2e3f4a5b"
    assert command == FetchCommand(
        request_id=f"req_{digits}",
        org_id=7,
        connector_id=f"conn_{digits}",
        report_type="campaign_performance",
        start=739_617,
        end=739_623,
        fields=("impressions", "clicks"),
        priority="normal",
        deadline_at=1_769_904_000_000,
        max_age_s=60,
        force=True,
        labels={"team": "a"},
    )


def test_what_is_written_today_is_the_golden_bytes() -> None:
    record = json.loads(golden("fetch.json"))
    assert encode_avro("FetchCommand", record) == golden("fetch.avro.hex")
    assert encode_json("FetchCommand", record) + b"\n" == golden("fetch.json")


def shape(type_: Any) -> str:
    """A type in the words of the reference page."""
    if isinstance(type_, list):
        return " or ".join(shape(part) for part in type_)
    if isinstance(type_, str):
        return type_.rpartition(".")[2]
    if type_["type"] == "array":
        return (
            f"list of ({shape(type_['items'])})"
            if isinstance(type_["items"], list)
            else f"list of {shape(type_['items'])}"
        )
    if type_["type"] == "map":
        return f"map of {shape(type_['values'])}"
    return "instant" if type_.get("logicalType") else str(type_.get("name", type_["type"]))


def table(record: dict[str, Any]) -> str:
    rows = ["| field | type | meaning |", "| --- | --- | --- |"]
    for field in record["fields"]:
        kind = "one of the records below" if field["name"] == "data" else shape(field["type"])
        default = f" Default {json.dumps(field['default'])}." if field.get("default") is not None else ""
        rows.append(f"| `{field['name']}` | {kind} | {field['doc']}{default} |")
    return "\n".join([f"### {record['name']}", "", record["doc"], "", *rows, ""])


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_page_tells_every_field(name: str) -> None:
    page = REFERENCE.read_text(encoding="utf-8")
    for record in records_of(raw(name)).values():
        assert table(record) in page, f"docs/reference/records.md needs this section:\n\n{table(record)}"


def test_the_reference_page_tells_of_no_other_record() -> None:
    told = {line[4:] for line in REFERENCE.read_text(encoding="utf-8").splitlines() if line.startswith("### ")}
    assert told == {record for name in NAMES for record in records_of(raw(name))}
