"""The acts of the story: what is asked, what is waited for, and what is told of it meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any
from urllib.request import Request, urlopen

from app.demo import story
from app.demo.events import Event, Seen
from app.demo.screen import Screen
from app.demo.service import Service
from app.demo.story import Asked
from app.services.wording import count

LIMIT_S = 120.0
"""How long any act may take."""


@dataclass(slots=True)
class Told:
    """What happened, for the table at the end."""

    asked: list[Asked] = field(default_factory=list)
    overtook: int = 0
    click_s: float = 0.0
    pause_s: float = 0.0
    pause_reason: str = ""
    reused: int = 0


class Play:
    """One performance. ``accounts``: connector id -> how its account is shown."""

    def __init__(
        self, service: Service, seen: Seen, screen: Screen, api_url: str, accounts: Mapping[str, str], today: date
    ) -> None:
        self._service, self._seen, self._screen = service, seen, screen
        self._api_url, self._accounts, self._today = api_url, accounts, today
        self._batches: dict[str, int] = {}
        self.told = Told()
        seen.on_event = self._tell

    async def all(self) -> None:
        """Every act, one after the other."""
        await self._morning()
        await self._click()
        await self._not_now()
        self._screen.head("until everything is answered")
        await self._ended(self.told.asked)
        await self._again()

    async def _morning(self) -> None:
        self._screen.head("three organisations ask")
        dashboards, backfill = story.dashboards(self._today), story.backfill(self._today)
        names = {one.account.name for one in dashboards}
        self._screen.say(f"  agency and retailer open dashboards: {len(dashboards)} requests on {len(names)} accounts,")
        self._screen.say("  with ranges that overlap; the publisher backfills " + f"{len(backfill)} months")
        await self._ask([*dashboards, *backfill])
        history = {one.request_id for one in backfill}
        await self._until(lambda: len(history & set(self._seen.ended)) >= 1, "the first month")

    async def _click(self) -> None:
        self._screen.head("the publisher clicks refresh (premium)")
        click = story.click(self._today)
        answer = await self._service.fetch(click)
        click = replace(click, request_id=answer["request_id"])
        self.told.asked.append(click)
        self._screen.say(f"  {_short(click)}  {_place(answer)}")
        began = asyncio.get_running_loop().time()
        await self._ended([click])
        self.told.click_s = asyncio.get_running_loop().time() - began
        behind = [a for a in self.told.asked if a.priority == "backfill" and a.request_id not in self._seen.ended]
        self.told.overtook = len(behind)
        months = count(len(behind), "month")
        self._screen.say(f"  it overtook {months} of backfill, which {'goes' if len(behind) == 1 else 'go'} on now")

    async def _not_now(self) -> None:
        self._screen.head("Google Ads says: not now")
        fault = {"route": "ads.search_stream", "fault": "ads_temporary", "seconds": story.PAUSE_S, "times": 1}
        await asyncio.to_thread(_post, f"{self._api_url}/_sandbox/faults", fault)
        paused = story.while_paused(self._today)
        await self._ask(paused)
        await self._until(lambda: any(e["data"]["source"] == "provider" for e in self._seen.limits), "the pause")
        limit = next(e for e in self._seen.limits if e["data"]["source"] == "provider")
        waiting = [(one, status) for one in paused if (status := await self._service.status(one))["waiting"]]
        for one, status in waiting:
            self._screen.say(f"  {_short(one)}  {_reason(status)}")
        self.told.pause_s = _seconds_between(limit["occurred_at"], limit["data"]["until"])
        self.told.pause_reason = str(limit["data"]["bucket"]).rstrip("|")
        others = sum(
            a.account.connector_type == "DV360" and a.request_id not in self._seen.ended for a in self.told.asked
        )
        told = f"{count(others, 'request')} of DV360 {'goes' if others == 1 else 'go'} on meanwhile"
        self._screen.say(f"  no worker calls Google Ads before that; {told}")

    async def _again(self) -> None:
        self._screen.head("the dashboards are opened again")
        again = story.dashboards(self._today)
        await self._ask(again)
        await self._ended(again)
        reused = [a for a in again if not self._seen.ended[a.request_id]["data"].get("provider_calls")]
        self.told.reused = len(reused)
        self._screen.say(f"  {len(reused)} of {len(again)} answered from days already held, without a provider call")

    async def _ask(self, asked: list[Asked]) -> None:
        self.told.asked += asked
        await self._service.publish(asked)

    async def _ended(self, asked: list[Asked]) -> None:
        ids = {one.request_id for one in asked}
        await self._until(lambda: ids <= set(self._seen.ended), "the answers")

    async def _until(self, true: Callable[[], bool], what: str) -> None:
        if not await self._seen.until(true, LIMIT_S):
            raise TimeoutError(f"{what} did not come within {LIMIT_S:.0f} s")

    def _tell(self, event: Event, at_s: float) -> None:
        self._screen.done(len(self._seen.ended))
        data, account = event["data"], self._accounts.get(str(event.get("connector_id")), "")
        if event["type"] == "data_fetched" and data["batch_id"]:
            self._tell_batch(data, account, at_s)
        elif event["type"] == "rate_limit_hit":
            provider, bucket = story.PROVIDERS[event["connector_type"]], str(data["bucket"]).rstrip("|")
            who = f"{provider} refuses" if data["source"] == "provider" else f"our count of {provider}'s calls is full"
            self._screen.say(f"  {at_s:5.1f} s  {who}: {bucket}, until {str(data['until'])[11:19]}")
        elif event["type"] in ("fetch_failed", "fetch_cancelled"):
            self._screen.say(f"  {at_s:5.1f} s  {event['type']} {event['request_id']}: {data}")

    def _tell_batch(self, data: Mapping[str, Any], account: str, at_s: float) -> None:
        """One line when the last member of a fetch has its slice."""
        served = self._batches[data["batch_id"]] = self._batches.get(data["batch_id"], 0) + 1
        if served == 1 + len(data["batched_with"]):
            file = data["files"][-1]
            requests = "1 request" if served == 1 else f"{served} requests"
            self._screen.say(
                f"  {at_s:5.1f} s  {account:<22} one fetch of {file['from']} .. {file['to']} answers {requests}"
            )


def _short(asked: Asked) -> str:
    return f"{asked.account.shown}, {asked.start} .. {asked.end}:"


def _place(answer: Mapping[str, Any]) -> str:
    place, wait_s = answer["queue_position"], answer["estimated_wait_seconds"]
    told = answer["status"] if place is None else f"{answer['status']}, place {place} of its queue"
    return told if wait_s is None else f"{told}, should start in {wait_s:.0f} s"


def _reason(status: Mapping[str, Any]) -> str:
    waiting = status["waiting"]
    bucket = f" {waiting['bucket']}" if waiting.get("bucket") else ""
    until = f" until {waiting['until'][11:19]}" if waiting.get("until") else ""
    return f"waits for {waiting['reason']}{bucket}{until}"


def _seconds_between(first: str, second: str) -> float:
    start, end = (datetime.fromisoformat(text).astimezone(UTC) for text in (first, second))
    return (end - start).total_seconds()


def _post(url: str, body: Any) -> None:
    request = Request(url, data=json.dumps(body).encode(), method="POST")  # noqa: S310 - the simulator on this machine
    with urlopen(request, timeout=10):  # noqa: S310
        return
