"""The ledger: what the planner wrote of calls, against the calls that the provider saw and the commands that asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tests.e2e.evidence import Evidence
from tests.e2e.findings import Report

TYPES: Mapping[str, str] = {"dv360": "DV360", "google_ads": "GOOGLE_ADS", "meta": "META"}
"""A provider of the sandbox -> the connector type whose calls it sees. Token endpoints need no permit."""
_WHOLE = 1_000_000


def seen(evidence: Evidence) -> Counter[str]:
    """Calls by connector type, as the provider saw them."""
    return Counter(TYPES[str(call["provider"])] for call in evidence.calls if call["provider"] in TYPES)


def short(evidence: Evidence) -> bool:
    """Whether the ledger does not account for all calls (yet): a permit's entry follows when it comes back, or when its
    call must have ended."""
    written = Counter(str(entry["connector_type"]) for entry in _once(evidence))
    return any(written[kind] < calls for kind, calls in seen(evidence).items())


def check(evidence: Evidence, report: Report) -> None:
    """Known calls <= calls that arrived <= known and unknown ones, by connector type; each written once, whole, and for
    requests that were there, with their own labels."""
    arrived = seen(evidence)
    written = Counter((str(one["connector_type"]), one["outcome"] != "unknown") for one in _once(evidence))
    for kind in sorted({kind for kind, _ in written} | set(arrived)):
        known, unknown = written[kind, True], written[kind, False]
        if not known <= arrived[kind] <= known + unknown:
            text = f"{arrived[kind]} {kind} calls arrived, the ledger has {known} and {unknown} unknown ones"
            report.add("ledger sum", text)
        report.figures[f"ledger {kind}"] = f"{known} calls and {unknown} unknown, {arrived[kind]} arrived"
    twice = len(evidence.usage) - len(_once(evidence))
    if twice:
        report.add("ledger twice", f"{twice} calls are written more than once")
    _check_members(evidence, report)


def _once(evidence: Evidence) -> list[Mapping[str, object]]:
    return list({str(entry["ask_id"]): entry for entry in evidence.usage}.values())


def _check_members(evidence: Evidence, report: Report) -> None:
    ended = {told.request_id: told for told in evidence.events if told.request_id is not None and not told.refused}
    for entry in evidence.usage:
        members = entry["members"]
        if members and sum(one["millionths"] for one in members) != _WHOLE:
            report.add("ledger shares", f"the shares of call {entry['ask_id']} are not one call")
        for one in members:
            told = ended.get(one["request_id"])
            if told is None:
                report.add("ledger stranger", f"call {entry['ask_id']} is attributed to {one['request_id']}")
            elif (told.org_id, told.connector_id) != (entry["org_id"], entry["connector_id"]):
                report.add("ledger stranger", f"call {entry['ask_id']} is {told.org_id}'s, not {entry['org_id']}'s")
            elif dict(told.labels) != one["labels"]:
                report.add("ledger labels", f"call {entry['ask_id']} has other labels than {one['request_id']}")
