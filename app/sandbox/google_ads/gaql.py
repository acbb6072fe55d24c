"""The Google Ads Query Language, as much as is accepted here:

    SELECT field, ... FROM resource
    [WHERE condition AND condition ...] [ORDER BY field [ASC|DESC], ...] [LIMIT n]

    condition: field =|!=|>|>=|<|<= value | field [NOT] IN (value, ...) | field BETWEEN value AND value
             | field DURING literal

There is no OR, no *, no parentheses around conditions. Whether the words mean anything is for ``plan``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from app.sandbox.google_ads.errors import AdsError, query_error

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<word>[A-Za-z_][A-Za-z0-9_.]*)
    | (?P<number>-?[0-9]+(?:\.[0-9]+)?)(?![A-Za-z0-9_.])
    | (?P<text>'[^'\\\n]*'|"[^"\\\n]*")
    | (?P<sign><=|>=|!=|[=<>(),])
    )""",
    re.VERBOSE,
)
_COMPARISONS = frozenset({"=", "!=", ">", ">=", "<", "<="})
_KEYWORDS = frozenset({"SELECT", "FROM", "WHERE", "ORDER", "BY", "LIMIT", "AND", "OR"})


@dataclass(frozen=True, slots=True)
class Token:
    """``kind``: word, number, text (its quotes removed), sign, or end."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Condition:
    """``operator`` is a comparison, IN, NOT IN, BETWEEN or DURING; ``values`` as many as it takes."""

    field: str
    operator: str
    values: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """One field of ORDER BY."""

    field: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A query that is well formed. ``select`` without repetitions."""

    select: tuple[str, ...]
    resource: str
    conditions: tuple[Condition, ...] = ()
    order: tuple[Order, ...] = ()
    limit: int | None = None


def parse(text: str) -> Query:
    """The query's parts; AdsError with the family queryError when it is not well formed."""
    words = _Words(_tokens(text))
    words.keyword("SELECT", "EXPECTED_SELECT")
    select = [words.field()]
    while words.take_sign(","):
        select.append(words.field())
    words.keyword("FROM", "EXPECTED_FROM")
    resource = words.field()
    conditions = _conditions(words) if words.take("WHERE") else []
    order = _order(words) if words.take("ORDER") else []
    limit = _limit(words) if words.take("LIMIT") else None
    words.end()
    return Query(tuple(dict.fromkeys(select)), resource, tuple(conditions), tuple(order), limit)


def _tokens(text: str) -> list[Token]:
    found, at, text = [], 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise _unreadable(text[at:].lstrip())
        content = match[match.lastgroup]
        found.append(Token(match.lastgroup, content[1:-1] if match.lastgroup == "text" else content))
        at = match.end()
    return found


def _unreadable(rest: str) -> AdsError:
    if rest[0] in "'\"":
        body = rest[1:].partition(rest[0])[0]
        if "\\" in body:
            return query_error("BAD_ESCAPE_SEQUENCE", "invalid escape sequence.")
        if "\n" in body and rest[0] in rest[1:]:
            return query_error("PROHIBITED_NEWLINE_IN_STRING", "newline in a string.")
        return query_error("STRING_NOT_TERMINATED", "unterminated string.")
    if not rest[0].isascii():
        return query_error("BAD_SYMBOL", f"invalid symbol '{rest[0]}'.")
    if rest[0].isdigit():
        return query_error("BAD_NUMBER", f"invalid number {rest.split(maxsplit=1)[0]}.")
    return query_error("UNEXPECTED_INPUT", f"unexpected input {rest.split(maxsplit=1)[0]}.")


@dataclass(slots=True)
class _Words:
    """The tokens, and how far they are read."""

    tokens: list[Token]
    at: int = field(default=0)

    def peek(self) -> Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else Token("end", "")

    def next(self) -> Token:
        token = self.peek()
        if token.kind == "end":
            raise query_error("UNEXPECTED_END_OF_QUERY", "unexpected end of query.")
        self.at += 1
        return token

    def take(self, keyword: str) -> bool:
        found = self.peek().kind == "word" and self.peek().text.upper() == keyword
        self.at += found
        return found

    def take_sign(self, sign: str) -> bool:
        found = self.peek() == Token("sign", sign)
        self.at += found
        return found

    def keyword(self, keyword: str, code: str) -> None:
        if not self.take(keyword):
            shown = self.peek().text or "the end of the query"
            raise query_error(code, f"expected {keyword}, found {shown}.")

    def field(self) -> str:
        token = self.next()
        if token.kind != "word" or token.text.upper() in _KEYWORDS:
            raise query_error("BAD_FIELD_NAME", f"invalid field name '{token.text}'.")
        return token.text

    def sign(self, sign: str, code: str) -> None:
        if not self.take_sign(sign):
            raise query_error(code, f"expected {sign}, found {self.peek().text or 'the end of the query'}.")

    def end(self) -> None:
        if self.peek().kind != "end":
            raise query_error("UNEXPECTED_INPUT", f"unexpected input {self.peek().text}.")


def _conditions(words: _Words) -> list[Condition]:
    found = [_condition(words)]
    while words.take("AND"):
        found.append(_condition(words))
    return found


def _condition(words: _Words) -> Condition:
    name = words.field()
    if words.peek().kind == "sign" and words.peek().text in _COMPARISONS:
        return Condition(name, words.next().text, (_value(words),))
    if words.take("BETWEEN"):
        return Condition(name, "BETWEEN", _between(words))
    if words.take("DURING"):
        return Condition(name, "DURING", (_value(words),))
    if words.take("IN"):
        return Condition(name, "IN", _list(words))
    if words.take("NOT") and words.take("IN"):
        return Condition(name, "NOT IN", _list(words))
    raise query_error("BAD_OPERATOR", f"invalid operator '{words.next().text}'.")


def _value(words: _Words) -> Token:
    token = words.next()
    if token == Token("sign", "("):
        raise query_error("EXPECTED_SINGLE_VALUE", "expected a single value, found a list.")
    if token.kind == "sign" or (token.kind == "word" and token.text.upper() in _KEYWORDS):
        raise query_error("BAD_VALUE", f"invalid value {token.text}.")
    return token


def _between(words: _Words) -> tuple[Token, Token]:
    if words.peek().text.upper() == "AND" or words.peek().kind == "end":
        raise query_error("EXPECTED_VALUE_WITH_BETWEEN_OPERATOR", "missing values of BETWEEN.")
    low = _value(words)
    words.keyword("AND", "EXPECTED_AND")
    if words.peek().kind == "end":
        raise query_error("EXPECTED_VALUE_WITH_BETWEEN_OPERATOR", "missing values of BETWEEN.")
    return low, _value(words)


def _list(words: _Words) -> tuple[Token, ...]:
    words.sign("(", "EXPECTED_LIST")
    if words.take_sign(")"):
        raise query_error("PROHIBITED_EMPTY_LIST_IN_CONDITION", "empty list.")
    found = [_value(words)]
    while words.take_sign(","):
        found.append(_value(words))
    words.sign(")", "EXPECTED_LIST")
    return tuple(found)


def _order(words: _Words) -> list[Order]:
    words.keyword("BY", "EXPECTED_BY")
    found = [_order_field(words)]
    while words.take_sign(","):
        found.append(_order_field(words))
    return found


def _order_field(words: _Words) -> Order:
    name = words.field()
    descending = words.take("DESC")
    if not descending:
        words.take("ASC")
    return Order(name, descending)


def _limit(words: _Words) -> int:
    token = words.next()
    if token.kind != "number" or not token.text.isdigit():
        raise query_error("BAD_LIMIT_VALUE", f"invalid limit {token.text}.")
    if int(token.text) < 1:
        raise query_error("LIMIT_VALUE_TOO_LOW", "the limit must be at least 1.")
    return int(token.text)
