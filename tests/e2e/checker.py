"""The outside checker: recomputes what must be true from raw topics, the sandbox's arrival log and the result files.

    python -m tests.e2e.checker --bootstrap HOST:PORT --prefix connector. --sandbox http://127.0.0.1:PORT

What it checks: F1 (one terminal event for every accepted command, ids as spec section 13), refusals, F2 (no call
over any quota in any window), the ledger (every call that arrived is written once, for those who asked), I9 and I10
(files, rows and cells against the provider's truth), versions of data sets, views. It asks none of the product's
counters.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.e2e import check_data, check_ledger, check_quotas, check_requests
from tests.e2e.check_data import Files, ReadFile
from tests.e2e.evidence import Evidence, Truth, read_file
from tests.e2e.findings import Report
from tests.e2e.gathering import SandboxTruth, gather


def judge(evidence: Evidence, truth: Truth, *, read: ReadFile = read_file, refusals: int | None = None) -> Report:
    """All checks over what was gathered. ``refusals``: how many commands must have been put aside, if it is known."""
    report = Report()
    answered = check_requests.check(evidence, report, refusals=refusals)
    check_quotas.check(evidence, report)
    check_ledger.check(evidence, report)
    files = Files(read, truth, report)
    check_data.check_data_sets(evidence, files, report)
    check_data.check_receipts(evidence, answered, files, report)
    check_data.check_runs(evidence, files, report)
    return report


async def check(bootstrap: str, prefix: str, sandbox: str, *, refusals: int | None = None) -> Report:
    """Gathers and judges. Raises what the clients raise when broker or sandbox do not answer."""
    evidence = await gather(bootstrap, prefix, sandbox)
    truth = SandboxTruth(sandbox, evidence.reports)
    return await asyncio.to_thread(judge, evidence, truth, refusals=refusals)


def run(bootstrap: str, prefix: str, sandbox: str, refusals: int | None) -> Report:
    """``check`` for a process of its own."""
    return asyncio.run(check(bootstrap, prefix, sandbox, refusals=refusals))


def main() -> int:
    """Prints the summary; exit code 0 when there is no problem."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.checker", description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", required=True, help="the broker, host:port")
    parser.add_argument("--prefix", default="connector.", help="of the topics' names")
    parser.add_argument("--sandbox", required=True, help="origin of the sandbox's APIs")
    parser.add_argument("--refusals", type=int, help="how many commands must be in the DLQ")
    given = parser.parse_args()
    report = run(given.bootstrap, given.prefix, given.sandbox, given.refusals)
    sys.stdout.write(report.summary() + "\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
