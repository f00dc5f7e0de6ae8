"""One thread for a library that blocks; it ends with the process, also when a call never returns."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

Job = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class WorkThread:
    """Does one thing after the other, away from the event loop. Started by its first call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, function: Callable[[], T]) -> T:
        """Return what a function returns, or raise what it raises.

        A caller that is cancelled leaves it going.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._jobs.put((function, answer, loop))
        return await answer

    def stop(self) -> None:
        """End the thread after what is under way."""
        self._jobs.put(None)
        self._thread = None

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, answer, loop = job
            if answer.cancelled():
                continue
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 the caller is told, whatever it is
                _tell(loop, answer, None, error)
            else:
                _tell(loop, answer, result, None)


def _tell(
    loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Any], result: Any, error: BaseException | None
) -> None:
    def deliver() -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error if isinstance(error, Exception) else RuntimeError(str(error)))

    if not loop.is_closed():
        loop.call_soon_threadsafe(deliver)
