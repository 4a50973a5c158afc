"""The straightforward script: what an able programmer writes in an afternoon. DictReader, json, one write a batch.

python script.py CSV URL CONCURRENCY REPORT
"""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import aiofiles
import aiohttp

HEADERS = {"Authorization": aiohttp.encode_basic_auth("sandbox-key", "sandbox-token")}
BATCH_SIZE = 5000


def batches_of(path: Path) -> Iterator[list[tuple[int, str]]]:
    """Row number and sid of each row, 5,000 at a time."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = ((number, row["contact_sid"]) for number, row in enumerate(csv.DictReader(file), 1))
        while batch := list(islice(rows, BATCH_SIZE)):
            yield batch


async def send(
    session: aiohttp.ClientSession, url: str, batches: Iterator[list[tuple[int, str]]], report: Any, lock: asyncio.Lock
) -> None:
    """Send batches until none is left, and report each contact."""
    for batch in batches:
        body = {"contact_references": [{"contact_sid": sid} for _, sid in batch]}
        async with session.post(url, json=body) as answer:
            envelope = json.loads(await answer.read())
        items = {item["data"]["sid"]: item for item in envelope["response"] if item["data"]}
        lines = []
        for row, sid in batch:
            item = items.get(sid)
            outcome = "added" if item and item["code"] == 200 else "failed"
            code = item["code"] if item else None
            lines.append(json.dumps({"row": row, "contact_sid": sid, "outcome": outcome, "code": code}) + "\n")
        async with lock:
            await report.write("".join(lines))


async def main(path: Path, url: str, concurrency: int, report_path: Path) -> None:
    """Import the file."""
    batches, lock = batches_of(path), asyncio.Lock()
    async with (
        aiohttp.ClientSession(headers=HEADERS) as session,
        aiofiles.open(report_path, "w") as report,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(concurrency):
            tasks.create_task(send(session, url, batches, report, lock))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
