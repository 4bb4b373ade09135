"""A source read by a thread, its answers read by the caller."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from edgekit.errors import StreamError
from edgekit.runtimes.realtime.records import Result

if TYPE_CHECKING:
    from edgekit.runtimes.realtime.stream import Stream


def over(stream: Stream, source: Iterable[Any]) -> Iterator[Result]:
    """See :meth:`Stream.over`."""
    outbox = Outbox(stream)
    feeder = threading.Thread(target=_feed, args=(stream, source, outbox), name="edgekit-stream-feeder", daemon=True)
    feeder.start()
    try:
        while (result := outbox.get()) is not None:
            yield result
    finally:
        outbox.stop()
    feeder.join()
    if outbox.failure is not None:
        raise outbox.failure


class Outbox:
    """Results that wait for the reader: at most ``queue_size``. With policy all the feeder waits for the reader, else
    the oldest go unread."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._every = stream, stream.policy == "all"
        self._changed = threading.Condition()
        self._results: deque[Result] = deque()
        self._open = 0  # requests without a result
        self._fed = self.stopped = False
        self.failure: BaseException | None = None

    def expect(self) -> bool:
        """One more request comes, when the reader is ready for it; False when he has gone."""
        with self._changed:
            while self._every and not self.stopped and self._open + len(self._results) > self._stream.queue_size:
                self._changed.wait()
            self._open += not self.stopped
            return not self.stopped

    def put(self, result: Result) -> None:
        """A request has ended."""
        with self._changed:
            self._open -= 1
            if self._every or result.dropped is None:
                self._results.append(result)
            unread = not self._every and len(self._results) > self._stream.queue_size
            if unread:
                self._results.popleft()
            self._changed.notify_all()
        if unread:
            self._stream.unread()

    def get(self) -> Result | None:
        """The next result; None when there are no more."""
        with self._changed:
            while not self._results:
                if self._fed and not self._open:
                    return None
                self._changed.wait()
            result = self._results.popleft()
            self._changed.notify_all()
            return result

    def end(self, failure: BaseException | None, unsent: int) -> None:
        """The source has ended, perhaps by ``failure``; ``unsent`` were expected and not brought."""
        with self._changed:
            self._fed, self.failure = True, failure
            self._open -= unsent
            self._changed.notify_all()

    def stop(self) -> None:
        """The reader has gone."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()


def _feed(stream: Stream, source: Iterable[Any], outbox: Outbox) -> None:
    """Bring the items, until the source or the stream ends, or the reader goes."""
    unsent = 0
    try:
        for item in source:
            if not outbox.expect():
                break
            unsent = 1
            stream.submit(item, callback=outbox.put)
            unsent = 0
    except StreamError:
        outbox.end(None, unsent)  # the stream was closed: that ends the answers
    except BaseException as error:
        outbox.end(error, unsent)
    else:
        outbox.end(None, unsent)
