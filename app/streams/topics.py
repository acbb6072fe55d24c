"""The topics: their names, partition counts and settings, made explicitly, never silently repartitioned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError

from app.domain.model import PARTITIONS
from app.streams.kafka import broker_of

_DAY_MS = 86_400_000
_LARGEST = "max.message.bytes"
_OWN_RECORD = {_LARGEST: str(4 * 2**20)}
"""What the service makes of a command is larger than the command: the broker's own limit would stop a worker."""
_DEAD_RECORD = {_LARGEST: str(16 * 2**20)}
"""A command is limited as it is compressed, its dead letter is not; ``codecs.MAX_DEAD_VALUE_BYTES`` keeps within."""


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

    @property
    def usage(self) -> str:
        return f"{self.prefix}usage"

    def settings(self) -> Mapping[str, Mapping[str, str]]:
        """Topic -> the settings that the service's promises rest on."""
        append = {"message.timestamp.type": "LogAppendTime"}
        compact = {"cleanup.policy": "compact", "segment.bytes": str(64 * 2**20), "min.cleanable.dirty.ratio": "0.3"}
        return {
            self.commands: {**append, "cleanup.policy": "delete", "retention.ms": str(7 * _DAY_MS)},
            self.planner: {**append, **_OWN_RECORD, "cleanup.policy": "delete", "retention.ms": str(7 * _DAY_MS)},
            self.fetches: {**_OWN_RECORD, "cleanup.policy": "delete", "retention.ms": str(_DAY_MS)},
            self.permits: {"cleanup.policy": "delete", "retention.ms": str(3_600_000)},
            self.events: {**_OWN_RECORD, "cleanup.policy": "delete", "retention.ms": str(30 * _DAY_MS)},
            self.usage: {**_OWN_RECORD, "cleanup.policy": "delete", "retention.ms": str(30 * _DAY_MS)},
            self.dlq: {**_DEAD_RECORD, "cleanup.policy": "delete", "retention.ms": str(30 * _DAY_MS)},
            self.state: {**compact, **_OWN_RECORD},
            self.requests: {**compact, **_OWN_RECORD},
            self.connectors: compact,
        }


class TopicMismatch(Exception):
    """Topics that exist in another shape than the service needs; lists every one, with what to do."""


async def apply(settings: Any) -> list[tuple[str, str]]:
    """Creates what is missing; (topic, ``created`` | ``exists``). Raises ``TopicMismatch`` for a wrong number of
    partitions and for a smaller record limit."""
    admin = await _admin(settings)
    try:
        names = Names(settings.streams.topic_prefix)
        there = await _partitions(admin, list(names.settings()))
        _refuse(there, small=await _too_small(admin, names, there))
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
    """(topic, ``ok``) for each. Raises ``TopicMismatch`` for missing topics, wrong partition counts and smaller
    record limits."""
    admin = await _admin(settings)
    try:
        names = Names(settings.streams.topic_prefix)
        there = await _partitions(admin, list(names.settings()))
        _refuse(there, wanted=list(names.settings()), small=await _too_small(admin, names, there))
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


async def _too_small(admin: AIOKafkaAdminClient, names: Names, there: Iterable[str]) -> list[str]:
    """Topics that take smaller records than the service writes, each with the command that changes that."""
    wanted = {t: int(s[_LARGEST]) for t in there if _LARGEST in (s := names.settings()[t])}
    if not wanted:
        return []
    asked = [ConfigResource(ConfigResourceType.TOPIC, t, {_LARGEST: ""}) for t in wanted]
    told = [r for answer in await admin.describe_configs(asked) for r in answer.resources]
    found = {topic: int(entry[1]) for *_, topic, entries in told for entry in entries if entry[0] == _LARGEST}
    return [
        f"{t} takes {found[t]} bytes a record, the service needs {n}: "
        f"kafka-configs --alter --topic {t} --add-config {_LARGEST}={n}"
        for t, n in wanted.items()
        if found.get(t, n) < n
    ]


def _refuse(there: Mapping[str, int], wanted: list[str] | None = None, small: Iterable[str] = ()) -> None:
    wrong = [f"{t} has {n} partitions, the service needs {PARTITIONS}" for t, n in there.items() if n != PARTITIONS]
    wrong += [f"{t} is missing" for t in wanted or [] if t not in there]
    if not wrong and small:
        raise TopicMismatch("; ".join(small))
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
