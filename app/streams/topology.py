"""The Faust app: consumer, assignor and life cycle. Everything that promises something is ours (docs/adr/0002)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
from faust.sensors.monitor import Monitor

from app.domain.model import PARTITIONS
from app.streams.kafka import Broker
from app.streams.topics import Names

POLL_RECORDS = 200
STREAM_BUFFER = 8_192
"""One full stream would block all others of the process. Faust stops reading a partition when its stream is four fifths
full, but only once a record of it arrives, and then hands out all that it read last: that of all partitions must fit
into the last fifth."""


class SilentMonitor(Monitor):
    """Counts nothing: the stock monitor costs a tenth of the CPU per event, and our metrics are our own."""

    def on_message_in(self, *args: Any, **kwargs: Any) -> None: ...
    def on_message_out(self, *args: Any, **kwargs: Any) -> None: ...
    def on_stream_event_in(self, *args: Any, **kwargs: Any) -> None: ...
    def on_stream_event_out(self, *args: Any, **kwargs: Any) -> None: ...
    def on_topic_buffer_full(self, *args: Any, **kwargs: Any) -> None: ...
    def on_tp_commit(self, *args: Any, **kwargs: Any) -> None: ...
    def track_tp_end_offset(self, *args: Any, **kwargs: Any) -> None: ...


class ConnectorApp(faust.App):
    """Faust's app, which lets running work end before its consumer leaves the group and others take the work for
    lost."""

    before_leave: Callable[[], Awaitable[None]] | None = None

    async def on_stop(self) -> None:
        if self.before_leave is not None:
            await self.before_leave()
        await super().on_stop()


@dataclass(frozen=True, slots=True)
class Topology:
    """The app and the topics its agents read."""

    app: ConnectorApp
    names: Names
    commands: Any
    planner: Any
    fetches: Any


def _data_folder() -> str:
    """Faust wants one; with tables in memory nothing is written there. One for all: a worker that is killed could not
    take away its own."""
    folder = Path(tempfile.gettempdir(), f"connector-faust-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return str(folder)


def build(settings: Any, names: Names, broker: Broker, worker: str) -> Topology:
    """``worker`` is this process's name in the group: an URL, as Faust's assignor tells it to all members."""
    app = ConnectorApp(
        settings.streams.group,
        broker=";".join(f"kafka://{server.strip()}" for server in broker.servers.split(",")),
        canonical_url=worker,
        store="memory://",
        datadir=_data_folder(),
        version=1,
        autodiscover=False,
        web_enabled=False,
        topic_partitions=PARTITIONS,
        topic_replication_factor=settings.kafka.replication_factor,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        broker_session_timeout=settings.streams.session_timeout_s,
        broker_heartbeat_interval=min(settings.streams.heartbeat_s, settings.streams.session_timeout_s / 3),
        broker_commit_interval=0.5,
        stream_buffer_maxsize=STREAM_BUFFER,
        broker_max_poll_records=POLL_RECORDS,
        consumer_auto_offset_reset="earliest",
        producer_linger=0.005,
        producer_request_timeout=30.0,
        Monitor=SilentMonitor,
    )
    kinds: dict[str, Any] = {"key_type": bytes, "value_type": bytes}
    raw: dict[str, Any] = {**kinds, "key_serializer": "raw", "value_serializer": "raw", "partitions": PARTITIONS}
    # The table holds nothing: it makes Faust assign the rows' partitions with the inbox's and call the take-over.
    app.Table("planner", partitions=PARTITIONS, changelog_topic=app.topic(names.state, **raw), **kinds)
    return Topology(
        app,
        names,
        commands=app.topic(names.commands, **raw),
        planner=app.topic(names.planner, **raw),
        fetches=app.topic(names.fetches, **raw),
    )
