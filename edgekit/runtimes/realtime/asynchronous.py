"""Streams for asyncio: the same threads underneath, and the event loop never waits for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from edgekit.errors import StreamError
from edgekit.runtimes.realtime.records import Result

if TYPE_CHECKING:
    from edgekit.runtimes.realtime.stream import Stream


async def run(stream: Stream, item: Any, captured: float | None, deadline_ms: float | None) -> Result:
    """See :meth:`Stream.run_async`."""
    future = await _bring(stream, item, captured, deadline_ms)
    return await asyncio.wrap_future(future)


async def _bring(stream: Stream, item: Any, captured: float | None, deadline_ms: float | None) -> Future[Result]:
    future: Future[Result] = Future()
    while (space := stream.offer(future, item, captured, deadline_ms)) is not None:
        await asyncio.wrap_future(space)
    return future


async def over(stream: Stream, source: AsyncIterable[Any]) -> AsyncIterator[Result]:
    """See :meth:`Stream.over_async`."""
    every = stream.policy == "all"
    loop, changed = asyncio.get_running_loop(), asyncio.Event()
    results: deque[Result] = deque()
    open_requests = 0

    def put(done: Future[Result]) -> None:
        nonlocal open_requests
        open_requests -= 1
        if every or done.result().dropped is None:
            results.append(done.result())
        if not every and len(results) > stream.queue_size:
            results.popleft()
            stream.unread()
        changed.set()

    def ended(done: Future[Result]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(put, done)

    async def feed() -> None:
        nonlocal open_requests
        async for item in source:
            while every and open_requests + len(results) > stream.queue_size:
                changed.clear()
                await changed.wait()
            try:
                future = await _bring(stream, item, None, None)
            except StreamError:
                return  # the stream was closed: that ends the answers
            open_requests += 1
            future.add_done_callback(ended)

    feeder = loop.create_task(feed())
    feeder.add_done_callback(lambda _: changed.set())
    try:
        while results or open_requests or not feeder.done():
            if results:
                yield results.popleft()
                changed.set()
                continue
            changed.clear()
            await changed.wait()
        feeder.result()
    finally:
        feeder.cancel()
