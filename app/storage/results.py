"""Result objects: Parquet, written once under a name made of our own ids, on any store obstore reaches.

A file is written beside the process first, then put in one request with create-if-absent, so that a half-written
object is never visible and the second writer of a run learns what the first one stored (spec section 14, R6).
"""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import re
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import ObjectStore, from_url

from app.domain.messages import Offer, StoredFile
from app.domain.model import ConnectorType, ReportType
from app.ports import Ready, ResultsUnavailable

T = TypeVar("T")

_REPORT = re.compile(r"[a-z][a-z0-9_]{0,62}")
_CONNECTOR = re.compile(r"conn_[0-9a-f]{32}")
_BATCH = re.compile(r"bat_[0-9a-f]{32}")
_PROBE = "v1/probe"


class ObjectResultStore:
    """``ports.ResultStore`` at ``url``: ``file:///folder``, ``s3://bucket/prefix``, ``gs://``, ``az://`` or
    ``memory:///``.

    ``options`` go to obstore (for S3 for example ``endpoint``, ``client_options``); credentials are better left to
    the environment. ``spool`` is a folder for files being written. ``crash_point`` is told ``object_spooled`` when
    the whole file is there but not yet visible.
    """

    def __init__(
        self,
        url: str,
        *,
        options: Mapping[str, Any] | None = None,
        spool: Path | None = None,
        crash_point: Callable[[str], None] = lambda _point: None,
    ) -> None:
        self._url = url.rstrip("/") + ("//" if url.rstrip("/").endswith(":") else "")
        self._store = _opened(self._url, dict(options or {}))
        self._spool = spool
        self._crash_point = crash_point

    def key(self, offer: Offer) -> str:
        """Object key of the run this offer belongs to. Raises ``ValueError`` for an id that is not one of ours."""
        facts = offer.connector
        if not (
            _REPORT.fullmatch(offer.report_type)
            and facts.connector_type in set(ConnectorType)
            and _CONNECTOR.fullmatch(facts.connector_id)
            and _BATCH.fullmatch(offer.batch_id)
            and facts.org_id >= 0
            and offer.run >= 0
        ):
            raise ValueError("the offer's ids are not of the form this service makes")
        folder = f"v1/report_type={offer.report_type}/connector_type={facts.connector_type}/org_id={facts.org_id:d}"
        return f"{folder}/connector_id={facts.connector_id}/{offer.batch_id}-{offer.run:d}.parquet"

    async def find(self, offer: Offer) -> StoredFile | None:
        """The run's object as it is stored, or None. Reads it whole: the checksum is that of its bytes."""
        key = self.key(offer)
        async with self._spooled() as path:
            try:
                answer = await obstore.get_async(self._store, key)
            except (NotFoundError, FileNotFoundError):
                return None
            size, checksum = 0, hashlib.sha256()
            with path.open("wb") as spool:
                async for piece in answer.stream(min_chunk_size=1024 * 1024):
                    size += spool.write(piece)
                    checksum.update(piece)
            description = await asyncio.to_thread(_describe, path)
        if description["run"] != f"{offer.batch_id}-{offer.run}":
            raise ValueError("the object belongs to another run")
        return _stored(f"{self._url}/{key}", description, size, checksum.hexdigest())

    async def write(self, offer: Offer, report: ReportType, ready: Ready) -> StoredFile:
        """Writes the batches once. Raises ``ProviderError`` provider_response when they disagree with their totals."""
        key = self.key(offer)
        async with self._spooled() as path:
            description = await _fill(path, offer, report, ready)
            size, checksum = await _in_thread(lambda: _measure(path))
            self._crash_point("object_spooled")
            try:
                # One request: create-if-absent exists for whole objects only (S3 takes up to 5 GiB so).
                await obstore.put_async(self._store, key, _mapped(path), mode="create", use_multipart=False)
            except AlreadyExistsError:
                pass
            else:
                return _stored(f"{self._url}/{key}", description, size, checksum)
        found = await self.find(offer)
        if found is None:
            raise FileNotFoundError("the result object was there and is gone")
        return found

    async def check(self) -> None:
        """Raises what obstore raises when the store does not answer; an absent object is an answer."""
        try:
            await obstore.head_async(self._store, _PROBE)
        except (NotFoundError, FileNotFoundError):
            return

    @asynccontextmanager
    async def _spooled(self) -> AsyncIterator[Path]:
        """A file of one's own while the block runs; what the disk or the store raise in it is told as one error."""
        try:
            with tempfile.TemporaryDirectory(prefix="connector-result-", dir=self._spool) as folder:
                yield Path(folder) / "result.parquet"
        except (BaseError, OSError) as error:
            raise ResultsUnavailable(type(error).__name__) from error


def _opened(url: str, options: dict[str, Any]) -> ObjectStore:
    if url.startswith("file:"):
        options = {"mkdir": True, **options}
    return from_url(url, **options)


async def _fill(path: Path, offer: Offer, report: ReportType, ready: Ready) -> dict[str, Any]:
    # One thread for the whole file, for what ``ahead`` says of threads and memory.
    thread = ThreadPoolExecutor(1, "write")
    try:
        file = await _in_thread(lambda: _result_file(path, offer, report), thread)
        try:
            async with aclosing(_generator(ready)) as batches:
                async for batch in batches:
                    await _in_thread(partial(file.add, batch), thread)
            description: dict[str, Any] = await _in_thread(lambda: file.finish(ready.control), thread)
        finally:
            file.close()
    finally:
        thread.shutdown(wait=False)
    return description


async def _generator(ready: Ready) -> AsyncGenerator[Any, None]:
    try:
        async for batch in ready.batches:
            yield batch
    finally:
        # Ends the download at once, also when the rows were refused half-way.
        close = getattr(ready.batches, "aclose", None)
        if close is not None:
            await close()


async def _in_thread(work: Callable[[], T], thread: Executor | None = None) -> T:
    """Runs in a thread and waits for its end even when cancelled: two threads must not share a Parquet writer."""
    task = asyncio.get_running_loop().run_in_executor(thread, work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _result_file(path: Path, offer: Offer, report: ReportType) -> Any:
    # Here, not at the top: a worker that never writes a result does not carry pyarrow (38 MB resident).
    from app.storage.parquet import ResultFile

    return ResultFile(path, offer, report)


def _describe(path: Path) -> dict[str, Any]:
    from app.storage.parquet import describe

    return describe(path)


def _mapped(path: Path) -> mmap.mmap:
    """The file's bytes without reading them into memory. Never closed by hand: obstore may still hold them."""
    with path.open("rb") as content:
        return mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ)


def _measure(path: Path) -> tuple[int, str]:
    with path.open("rb") as content:
        return path.stat().st_size, hashlib.file_digest(content, "sha256").hexdigest()


def _stored(uri: str, description: Mapping[str, Any], size: int, checksum: str) -> StoredFile:
    return StoredFile(
        uri=uri,
        start=description["start"],
        end=description["end"],
        rows=description["rows"],
        size_bytes=size,
        checksum=f"sha256:{checksum}",
        days=tuple((day, rows, digest) for day, rows, digest in description["days"]),
        totals=dict(description["totals"]),
        columns_absent=tuple(description["columns_absent"]),
        currency=description["currency"],
        time_zone=description["time_zone"],
    )
