from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from app.domain import identity
from app.domain.commands import CancelCommand, Command, FetchCommand

HEX = "0190a1b2c3d47e5f8a9b0c1d2e3f4a5b"
BARE = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"


@pytest.mark.parametrize("text", [f"req_{HEX}", BARE])
def test_both_spellings_of_an_id_become_one(text: str) -> None:
    assert identity.normalise("req", text) == f"req_{HEX}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "req_",
        HEX,
        f"conn_{HEX}",
        f"req_{HEX.upper()}",
        BARE.upper(),
        f"req_{BARE}",
        f"{{{BARE}}}",
        f"urn:uuid:{BARE}",
        f"req_{HEX}\n",
        f"{BARE}\n",
        f" req_{HEX}",
        f"req_{HEX[:-1]}",
        f"req_{HEX}0",
        "req_" + "٠" * 32,
        "req_123",
    ],
)
def test_no_other_spelling_is_an_id(text: str) -> None:
    assert identity.normalise("req", text) is None


def test_computed_ids_are_these_for_ever() -> None:
    """An id that changes between versions would announce every fact of a replay a second time."""
    request, connector = f"req_{HEX}", f"conn_{HEX}"
    assert identity.terminal_event_id(connector, request) == "evt_d8d5ebf4bb4c5bc18ab4b9a8263e1d41"
    assert identity.refused_event_id(request, b"{}") == "evt_196804dbb7a65e388ab56a75053677f0"
    assert identity.dataset_event_id(7, connector, "campaign_performance", 3) == "evt_abfe6f08527c5b4ab5d3898fe7d2a935"
    assert (
        identity.command_request_id("connector.commands", 3, 42, 1_770_000_000_000)
        == "req_7e16eaa9367b5b24bd01336365ffaed4"
    )
    assert identity.idempotent_request_id(7, "key") == "req_f34360ff7bb25111947b528bf293405f"


def test_a_computed_id_is_a_uuid_of_version_5_over_the_joined_parts() -> None:
    made = identity.uuid5("a", 1, "b")
    assert made == uuid.uuid5(identity.NAMESPACE, "a|1|b")
    assert made.version == 5


def test_each_part_of_a_command_place_counts() -> None:
    places = [("t", 1, 2, 3), ("u", 1, 2, 3), ("t", 0, 2, 3), ("t", 1, 0, 3), ("t", 1, 2, 0)]
    assert len({identity.command_request_id(*place) for place in places}) == len(places)


def test_two_values_are_refused_by_two_events() -> None:
    assert identity.refused_event_id("req_x", b"a") != identity.refused_event_id("req_x", b"b")


def test_the_time_inside_a_uuid7() -> None:
    millis = int(HEX[:12], 16)
    assert identity.uuid7_millis(f"req_{HEX}") == millis
    assert identity.uuid7_millis(BARE) == millis


@pytest.mark.parametrize(
    "text", ["", "req_123", f"req_{uuid.UUID(int=4, version=4).hex}", f"req_{HEX[:16]}c{HEX[17:]}"]
)
def test_no_time_in_any_other_id(text: str) -> None:
    assert identity.uuid7_millis(text) is None


def test_the_body_hash_is_over_all_but_the_id() -> None:
    command = FetchCommand(f"req_{HEX}", 7, f"conn_{HEX}", "campaign_performance", 739_000, 739_006, ("clicks",))
    same = replace(command, request_id=None)
    others: list[Command] = [
        replace(command, org_id=8),
        replace(command, end=739_007),
        replace(command, fields=()),
        replace(command, labels={"a": "b"}),
        replace(command, force=True),
        CancelCommand(f"req_{HEX}", 7, f"conn_{HEX}"),
    ]
    assert identity.body_hash(command) == identity.body_hash(same)
    assert len({identity.body_hash(other) for other in (command, *others)}) == len(others) + 1


def test_the_order_of_labels_does_not_change_the_body() -> None:
    one = FetchCommand(None, 7, "conn_x", "r", labels={"a": "1", "b": "2"})
    assert identity.body_hash(one) == identity.body_hash(replace(one, labels={"b": "2", "a": "1"}))
