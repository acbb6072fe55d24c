"""The topics: their names, partition counts and settings, made explicitly, never silently repartitioned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

from app.domain.model import PARTITIONS
from app.streams.kafka import broker_of

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Names:
    """Topic names under one prefix (``connector.``)."""

    prefix: str = "connector."

    @property
    def commands(self) -> str:
        return f"{self.prefix}commands"

    @property
    def events(self) -> str:
        return f"{self.prefix}events"

    @property
    def dlq(self) -> str:
        return f"{self.prefix}dlq"

    @property
    def planner(self) -> str:
        return f"{self.prefix}planner"

    @property
    def state(self) -> str:
        return f"{self.prefix}planner-state"

    @property
    def permits(self) -> str:
        return f"{self.prefix}permits"

    @property
    def fetches(self) -> str:
        return f"{self.prefix}fetches"

    @property
    def requests(self) -> str:
        return f"{self.prefix}requests"

    @property
    def connectors(self) -> str:
        return f"{self.prefix}connectors"

    def settings(self) -> Mapping[str, Mapping[str, str]]:
        """Topic -> the settings that the service's promises rest on."""
        append = {"message.timestamp.type": "LogAppendTime"}
        compact = {"cleanup.policy": "compact", "segment.bytes": str(64 * 2**20), "min.cleanable.dirty.ratio": "0.3"}
        return {
            self.commands: {**append, "cleanup.policy": "delete", "retention.ms": str(7 * _DAY_MS)},
            self.planner: {**append, "cleanup.policy": "delete", "retention.ms": str(7 * _DAY_MS)},
            self.fetches: {"cleanup.policy": "delete", "retention.ms": str(_DAY_MS)},
            self.permits: {"cleanup.policy": "delete", "retention.ms": str(3_600_000)},
            self.events: {"cleanup.policy": "delete", "retention.ms": str(30 * _DAY_MS)},
            self.dlq: {"cleanup.policy": "delete", "retention.ms": str(30 * _DAY_MS)},
            self.state: compact,
            self.requests: compact,
            self.connectors: compact,
        }


class TopicMismatch(Exception):
    """Topics that exist in another shape than the service needs; lists every one, with what to do."""


async def apply(settings: Any) -> list[tuple[str, str]]:
    """Creates what is missing; (topic, ``created`` | ``exists``). Raises ``TopicMismatch`` for a wrong number of
    partitions."""
    admin = await _admin(settings)
    try:
        names = Names(settings.streams.topic_prefix)
        there = await _partitions(admin, list(names.settings()))
        _refuse(there)
        missing = [t for t in names.settings() if t not in there]
        new = [
            NewTopic(t, PARTITIONS, settings.kafka.replication_factor, topic_configs=dict(names.settings()[t]))
            for t in missing
        ]
        if new:
            await _create(admin, new)
        return [(t, "created" if t in missing else "exists") for t in names.settings()]
    finally:
        await admin.close()


async def check(settings: Any) -> list[tuple[str, str]]:
    """(topic, ``ok``) for each. Raises ``TopicMismatch`` for missing topics and wrong partition counts."""
    admin = await _admin(settings)
    try:
        names = Names(settings.streams.topic_prefix)
        there = await _partitions(admin, list(names.settings()))
        _refuse(there, wanted=list(names.settings()))
        return [(t, "ok") for t in names.settings()]
    finally:
        await admin.close()


async def _admin(settings: Any) -> AIOKafkaAdminClient:
    admin = AIOKafkaAdminClient(**broker_of(settings).client(), request_timeout_ms=10_000)
    await admin.start()
    return admin


async def _partitions(admin: AIOKafkaAdminClient, topics: list[str]) -> dict[str, int]:
    known = set(await admin.list_topics())
    found = await admin.describe_topics([t for t in topics if t in known]) if known & set(topics) else []
    return {t["topic"]: len(t["partitions"]) for t in found}


def _refuse(there: Mapping[str, int], wanted: list[str] | None = None) -> None:
    wrong = [f"{t} has {n} partitions, the service needs {PARTITIONS}" for t, n in there.items() if n != PARTITIONS]
    wrong += [f"{t} is missing" for t in wanted or [] if t not in there]
    if wrong:
        hint = "A topic is never repartitioned in place: delete it if it is empty, then run: connector topics apply"
        raise TopicMismatch("; ".join(wrong) + f". {hint}")


async def _create(admin: AIOKafkaAdminClient, new: list[NewTopic]) -> None:
    answer = await admin.create_topics(new, timeout_ms=10_000)
    failed = [
        f"{topic}: {text or code}"
        for topic, code, text in answer.topic_errors
        if code not in (0, TopicAlreadyExistsError.errno)
    ]
    if failed:
        raise TopicMismatch("could not create " + "; ".join(failed))
