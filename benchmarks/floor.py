"""The floor: the same bytes posted and read by bare aiohttp, nothing parsed and nothing written.

python floor.py BODIES URL CONCURRENCY     BODIES: a request's body in each line
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp

HEADERS = {
    "Authorization": aiohttp.encode_basic_auth("sandbox-key", "sandbox-token"),
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
}


async def post(session: aiohttp.ClientSession, url: str, bodies: Iterator[bytes]) -> None:
    """Post bodies until none is left."""
    for body in bodies:
        async with session.post(url, data=body.rstrip(b"\n")) as answer:
            await answer.read()


async def main(path: Path, url: str, concurrency: int) -> None:
    """Post every line of the file."""
    with path.open("rb") as file:
        bodies = iter(file)
        async with aiohttp.ClientSession(headers=HEADERS) as session, asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(post(session, url, bodies))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
