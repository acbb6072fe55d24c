"""Internal records come back as they were written: every message, row and view, with any values."""

from __future__ import annotations

from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import messages
from app.domain.coverage import DataSet
from app.domain.messages import RequestView, Tick
from app.domain.model import ConnectorFacts
from app.domain.state import KINDS
from app.streams import internal

QUICK = settings(max_examples=40, deadline=None)
MESSAGES = tuple(internal._MESSAGES)

texts = st.text(st.characters(codec="utf-8"), max_size=12)
whole = st.integers(-(2**53), 2**53)
plain = st.recursive(
    st.none() | st.booleans() | whole | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
)


def anything(hint: Any) -> st.SearchStrategy[Any]:
    """Values of an annotation; dataclasses field by field."""
    if hint is Any:
        return plain
    if get_origin(hint) is dict and get_args(hint)[1] is Any:
        return st.dictionaries(texts, plain, max_size=2)
    if get_origin(hint) is UnionType:
        return st.one_of(*(anything(part) for part in get_args(hint)))
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        return instances(hint)
    return st.from_type(hint)


def instances(cls: type) -> st.SearchStrategy[Any]:
    return st.builds(cls, **{name: anything(hint) for name, hint in get_type_hints(cls).items()})


st.register_type_strategy(int, whole)
st.register_type_strategy(str, texts)
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_comes_back(name: str) -> None:
    @QUICK
    @given(instances(getattr(messages, name)))
    def holds(message: Any) -> None:
        assert internal.load(internal.dump(message)) == message

    holds()


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_comes_back(kind: str) -> None:
    @QUICK
    @given(instances(KINDS[kind]))
    def holds(row: Any) -> None:
        assert internal.load_row(f"{kind}/name", internal.dump_row(row) or b"") == row

    holds()


@QUICK
@given(st.dictionaries(st.integers(1, 3_000_000), st.integers(0, 10**9)))
def test_calendar_counts_come_back_with_days_as_numbers(counts: dict[int, int]) -> None:
    assert internal.load_row("d/per_day|", internal.dump_row(counts) or b"") == counts


@QUICK
@given(instances(RequestView), instances(ConnectorFacts))
def test_views_and_connectors_come_back(view: RequestView, facts: ConnectorFacts) -> None:
    assert internal.load_view(internal.dump_row(view) or b"") == view
    assert internal.load_connector(internal.dump_row(facts) or b"") == facts


def test_a_tick_and_a_deleted_row_come_back() -> None:
    assert internal.load(internal.dump(Tick())) == Tick()
    assert internal.dump_row(None) is None
    assert internal.load_row("o", b'{"offset":7,"now":1}') == {"offset": 7, "now": 1}


def test_an_older_or_newer_writers_record_is_read() -> None:
    assert internal.load_row("c/k", b'{"key":"k","later":[1]}') == DataSet("k")
    known = {"connector_id": "c", "org_id": 7, "connector_type": "GOOGLE_ADS", "account_id": "1", "grant_id": "g"}
    before_managers = orjson.dumps({**known, "subject": "s", "deleted": False})
    assert internal.load_connector(before_managers) == ConnectorFacts("c", 7, "GOOGLE_ADS", "1", "g", "s")


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"1",
        b'{"k":"Nobody","v":{}}',
        b'{"k":"Ask","v":{}}',
        b'{"k":"Ask"}',
        b'{"k":"Ask","v":1}',
        b'{"k":"Ask","v":[]}',
        b'{"k":"Ask","v":null}',
        b'{"k":["Ask"],"v":{}}',
        b'{"k":"Accept","v":{"connector":1}}',
        b'{"k":"StepOutcome","v":{"file":[1]}}',
    ],
)
def test_what_cannot_be_read_is_unreadable_and_nothing_else(value: bytes | None) -> None:
    with pytest.raises(internal.Unreadable):
        internal.load(value)


@pytest.mark.parametrize("value", [b"1", b"[]", b'"x"'])
def test_a_row_that_is_no_object_is_a_type_error(value: bytes) -> None:
    for read in (internal.load_view, internal.load_connector, internal.heading_of):
        with pytest.raises(TypeError):
            read(value)
