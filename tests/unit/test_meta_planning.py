"""Meta's declarations in the planner's hands: whom each throttle stops, and what the headers take from whom."""

from __future__ import annotations

import pytest

from app.bootstrap import rules_of
from app.config import Settings
from app.connectors.meta import headers
from app.connectors.meta.errors import classify, read
from app.connectors.registry import connectors_of
from app.domain.messages import Ask, Returned, StepOutcome, Tick, Told
from app.domain.model import ConnectorFacts
from app.domain.state import State
from app.testing.planning import NOW, TODAY, accept, facts, take

MINE = {"connector_type": "META", "subject": "ana"}
ONE = facts(1, account_id="1", **MINE)
SAME_USER = facts(2, account_id="2", **MINE)
OTHER_USER = facts(3, account_id="3", connector_type="META", subject="bob")


def state_of_meta() -> State:
    settings = Settings.load({})
    return State(rules_of(settings, connectors_of(settings)), now=NOW)


def refused_start(code: int, subcode: int | None, told: dict[str, str]) -> State:
    """A planner one of whose starts was refused so."""
    state = state_of_meta()
    (offer,) = take(state, accept(1, TODAY - 1, TODAY - 1, connector=ONE)).offers
    take(state, Ask("ask1", "w", offer.batch_id, offer.epoch, offer.step_no, "insights", data=True))
    body = {"error": {"code": code} | ({"error_subcode": subcode} if subcode else {})}
    failure = classify("create", read(400, body), told)
    take(state, StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", calls=1, failure=failure))
    return state


def starts(state: State, connector: ConnectorFacts, at: int) -> bool:
    changes = take(state, accept(9, TODAY - 1, TODAY - 1, connector=connector), at=at)
    return any(offer.connector == connector for offer in changes.offers)


MINUTES = {"x-business-use-case-usage": '{"1": [{"type": "ads_insights", "estimated_time_to_regain_access": 3}]}'}
SECONDS = {"x-ad-account-usage": '{"acc_id_util_pct": 100, "reset_time_duration": 90}'}


@pytest.mark.parametrize(
    ("code", "subcode", "told", "until_s", "stopped"),
    [
        (80000, None, MINUTES, 180, {"1"}),
        (80004, None, MINUTES, 180, {"1"}),
        (17, 2446079, SECONDS, 90, {"1"}),
        (613, None, SECONDS, 90, {"1"}),
        (17, None, {}, 60, {"1", "2"}),
        (4, None, {}, 60, {"1", "2", "3"}),
    ],
)
def test_a_throttle_stops_those_it_is_about_until_the_time_it_names(
    code: int, subcode: int | None, told: dict[str, str], until_s: int, stopped: set[str]
) -> None:
    for connector in (ONE, SAME_USER, OTHER_USER):
        state = refused_start(code, subcode, told)
        take(state, Tick(), at=NOW + until_s * 1000 - 2)
        kept = not starts(state, connector, NOW + until_s * 1000 - 1)
        assert kept == (connector.account_id in stopped)
        later = take(state, Tick(), at=NOW + until_s * 1000)
        assert {offer.connector.account_id for offer in later.offers} == {"1", connector.account_id} & stopped
        assert [batch.attempts for batch in state.batches.values()] == [0] * len(state.batches)


@pytest.mark.parametrize(
    ("told", "room"),
    [
        ({}, 59),
        ({"x-ad-account-usage": '{"acc_id_util_pct": 90}'}, 6),
        ({"x-business-use-case-usage": '{"1": [{"type": "ads_insights", "call_count": 95}]}'}, 30),
        ({"x-business-use-case-usage": '{"77": [{"type": "ads_insights", "call_count": 100}]}'}, 0),
        ({"x-fb-ads-insights-throttle": '{"acc_id_util_pct": 99}'}, 6),
        ({"x-app-usage": '{"call_count": 100}'}, 59),
    ],
)
def test_headers_lower_the_room_of_the_account_they_are_about(told: dict[str, str], room: int) -> None:
    state = state_of_meta()
    number = 0

    def granted(connector: ConnectorFacts) -> str | None:
        nonlocal number
        number += 1
        answers = take(state, Ask(f"ask{number}", "w", None, 0, 0, "insights", connector=connector)).answers
        return next((answer.ask_id for answer in answers if answer.denied is None), None)

    first = granted(ONE) or ""
    usage = tuple(Told(first, one) for one in headers.usage(told))
    take(state, Returned((first,), ((first, 5, 1),), usage=usage))
    assert sum(granted(ONE) is not None for _ in range(70)) == room
    assert sum(granted(OTHER_USER) is not None for _ in range(70)) == 60
