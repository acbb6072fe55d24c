"""Reads a GraphQL question of the part of the language that is simulated (one query; fields, arguments, variables), and
checks it against the types that are. Anything else is a fault of the question."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(r"[\s,]+|(?P<token>[A-Za-z_]\w*|\$[A-Za-z_]\w*|\"[^\"\\\n]*\"|-?[0-9]+|[{}():!=])")
_NAME = re.compile(r"[A-Za-z_]\w*")
_DEEPEST = 20

TYPES: Mapping[str, Mapping[str, tuple[str, frozenset[str]]]] = {
    "Query": {"advertiser": ("Advertiser", frozenset({"id"})), "campaign": ("Campaign", frozenset({"id"}))},
    "Advertiser": {
        "id": ("", frozenset()), "name": ("", frozenset()),
        "campaigns": ("Campaigns", frozenset({"first", "after"})), "reporting": ("Reporting", frozenset()),
    },
    "Campaign": {"id": ("", frozenset()), "name": ("", frozenset()), "reporting": ("Reporting", frozenset())},
    "Campaigns": {"nodes": ("Campaign", frozenset()), "pageInfo": ("PageInfo", frozenset())},
    "PageInfo": {"hasNextPage": ("", frozenset()), "endCursor": ("", frozenset())},
    "Reporting": {"generalReporting": ("Figures", frozenset({"where"}))},
    "Figures": {"nodes": ("Day", frozenset()), "pageInfo": ("PageInfo", frozenset())},
    "Day": {"dimensions": ("Dimensions", frozenset()), "metrics": ("Metrics", frozenset())},
    "Dimensions": {"time": ("Time", frozenset())},
    "Time": {"day": ("", frozenset())},
    "Metrics": {
        "impressions": ("", frozenset()), "clicks": ("", frozenset()), "conversions": ("", frozenset()),
        "spend": ("Money", frozenset()),
    },
    "Money": {"advertiserCurrency": ("", frozenset())},
}  # fmt: skip
"""Type -> field -> (its type, empty for a value; the names of its arguments)."""


class QueryError(Exception):
    """VALIDATION_FAILURE; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A field that is asked for: its arguments with the variables' values in them, and the fields of it."""

    name: str
    arguments: Mapping[str, Any]
    fields: tuple[Selection, ...]


def parse_query(text: str, variables: Mapping[str, Any]) -> tuple[Selection, ...]:
    """The fields of a question. Raises ``QueryError``."""
    reader = _Reader(list(_tokens(text)), variables)
    found = reader.operation()
    for field in found:
        _check(field, "Query")
    return found


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise QueryError(f"unexpected character at {at}")
        at = match.end()
        if match["token"]:
            yield match["token"]


class _Reader:
    def __init__(self, tokens: list[str], variables: Mapping[str, Any]) -> None:
        self._tokens = tokens
        self._at = 0
        self._given = variables
        self._declared: dict[str, Any] = {}
        self._used: set[str] = set()

    def operation(self) -> tuple[Selection, ...]:
        if self._next() != "query":
            raise QueryError("only queries are simulated")
        if _NAME.fullmatch(self._peek()):
            self._next()
        if self._peek() == "(":
            self._declarations()
        found = self._fields(0)
        if self._at != len(self._tokens):
            raise QueryError("there is more than one operation")
        if unused := sorted(set(self._declared) - self._used):
            raise QueryError(f"{unused[0]} is never used")
        return found

    def _declarations(self) -> None:
        self._expect("(")
        while self._peek() != ")":
            name = self._next()
            self._expect(":")
            kind = self._next()
            if not name.startswith("$") or kind not in ("ID", "DateTime", "Int", "String"):
                raise QueryError(f"{name} is not declared as a variable is")
            if required := self._peek() == "!":
                self._next()
            value = self._given.get(name[1:])
            if required and value is None:
                raise QueryError(f"{name} is required")
            if value is not None and not isinstance(value, int if kind == "Int" else str):
                raise QueryError(f"{name} is no {kind}")
            self._declared[name] = value
        self._expect(")")

    def _fields(self, depth: int) -> tuple[Selection, ...]:
        if depth > _DEEPEST:
            raise QueryError("the question is too deep")
        self._expect("{")
        found = []
        while self._peek() != "}":
            name = self._next()
            if not _NAME.fullmatch(name):
                raise QueryError(f"{name} is no field")
            arguments = self._object("(", ")") if self._peek() == "(" else {}
            found.append(Selection(name, arguments, self._fields(depth + 1) if self._peek() == "{" else ()))
        self._expect("}")
        if not found:
            raise QueryError("a selection is empty")
        return tuple(found)

    def _object(self, opening: str, closing: str) -> dict[str, Any]:
        self._expect(opening)
        found: dict[str, Any] = {}
        while self._peek() != closing:
            name = self._next()
            self._expect(":")
            found[name] = self._value()
        self._expect(closing)
        return found

    def _value(self) -> Any:
        token = self._peek()
        if token == "{":
            return self._object("{", "}")
        self._next()
        if token.startswith("$"):
            if token not in self._declared:
                raise QueryError(f"{token} is not declared")
            self._used.add(token)
            return self._declared[token]
        if token.startswith('"'):
            return token[1:-1]
        if token.lstrip("-").isdecimal():
            return int(token)
        raise QueryError(f"{token} is no value")

    def _peek(self) -> str:
        if self._at >= len(self._tokens):
            raise QueryError("the question ends early")
        return self._tokens[self._at]

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise QueryError(f"{token} was expected")


def _check(asked: Selection, parent: str) -> None:
    if asked.name not in TYPES[parent]:
        raise QueryError(f"The field `{asked.name}` does not exist on the type `{parent}`.")
    kind, arguments = TYPES[parent][asked.name]
    if unknown := sorted(set(asked.arguments) - arguments):
        raise QueryError(f"The argument `{unknown[0]}` does not exist.")
    if bool(kind) != bool(asked.fields):
        raise QueryError(f"`{asked.name}` {'needs' if kind else 'has no'} fields.")
    for field in asked.fields:
        _check(field, kind)
