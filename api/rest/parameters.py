"""Query parameters: only those a route has, each once, and every fault at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aiohttp import web

from api.rest.problem import Problem
from app.domain.commands import MAX_FAULTS, nearest, shown
from app.domain.errors import Fault

_TRUTH: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}


def given(request: web.Request, known: Sequence[str] = ()) -> Mapping[str, str]:
    """The parameters of a request. Raises ``Problem`` ``invalid_parameter``."""
    query = request.query
    if not query:
        return {}
    refuse_for([*_unknown(query, known), *_repeated(request, known)])
    return query


def _unknown(query: Mapping[str, str], known: Sequence[str]) -> list[Fault]:
    names = [name for name in query if name not in known][:MAX_FAULTS]
    return [fault(f"there is no parameter {shown(name)}{nearest(name, known)}") for name in dict.fromkeys(names)]


def _repeated(request: web.Request, known: Sequence[str]) -> list[Fault]:
    return [fault(f"{name} is given twice") for name in known if len(request.query.getall(name, [])) > 1]


def fault(detail: str) -> Fault:
    """What is wrong with a parameter."""
    return Fault("invalid_parameter", "", detail)


def refuse_for(faults: Iterable[Fault]) -> None:
    """Raises ``Problem`` if there are any."""
    listed = tuple(faults)
    if listed:
        raise Problem("invalid_parameter", "; ".join(f.detail for f in listed), errors=listed)


def truth(name: str, text: str | None) -> bool:
    """The value of a switch, which is off when it is not given. Raises ``Problem`` ``invalid_parameter``."""
    if text is None:
        return False
    value = _TRUTH.get(text)
    if value is None:
        refuse_for([fault(f"{name} must be true or false, not {shown(text)}")])
    return value is True
