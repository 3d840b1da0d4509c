"""Images -> answers: a bounded number at once, decoded beside each other, scored in micro-batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mococxr.classifier.findings import Finding, findings_of
from mococxr.classifier.graph import BATCH
from mococxr.classifier.saved import BETWEEN, Model, Verdict
from mococxr.errors import ImageError
from mococxr.images.grey_levels import REMARKS
from mococxr.service.answers import ImageAnswer
from mococxr.service.decoding import Pixels
from mococxr.service.prometheus import Counters

Read = Callable[[bytes], Awaitable[Pixels | ImageError]]
"""Decodes one image."""


Scored = tuple[tuple[Finding, ...], Verdict]
"""The findings of an image; its view, and what the guard of the model warns of."""


class Busy(Exception):
    """As many images wait as may."""


@dataclass(frozen=True)
class _Waiting:
    pixels: Pixels
    answer: asyncio.Future[Scored]


class Scorer:
    """Answers for the images of requests.

    A batch is whatever was decoded while the last one was scored, so a single image waits for nobody.

    Args:
        model: with a graph, which is run in a thread.
        read: see `Read`.
        most: images at once; see `Busy`.
    """

    def __init__(self, model: Model, read: Read, most: int, counters: Counters) -> None:
        self.model, self.most, self._read, self._counters = model, most, read, counters
        self.images = 0
        self._decoded: asyncio.Queue[_Waiting] = asyncio.Queue()

    async def answers(self, images: Sequence[bytes]) -> list[ImageAnswer]:
        """One answer for each image, in order.

        Raises:
            Busy: there is no room for them now.
        """
        if self.images + len(images) > self.most:
            raise Busy
        self._count(len(images))
        try:
            return list(await asyncio.gather(*(self._answer(number, data) for number, data in enumerate(images, 1))))
        finally:
            self._count(-len(images))

    def _count(self, more: int) -> None:
        self.images += more
        self._counters.waiting.set(self.images)

    async def _answer(self, number: int, data: bytes) -> ImageAnswer:
        pixels = await self._read(data)
        if isinstance(pixels, ImageError):
            self._counters.images.labels("refused").inc()
            return ImageAnswer(number, (), None, None, str(pixels))
        waiting = _Waiting(pixels, asyncio.get_running_loop().create_future())
        self._decoded.put_nowait(waiting)
        findings, (view, warnings) = await waiting.answer
        self._counters.images.labels("scored").inc()
        warning = BETWEEN.join([*warnings, *(REMARKS[remark] for remark in pixels.remarks)])
        return ImageAnswer(number, findings, view, warning or None, None)

    async def run(self) -> None:
        """Score what was decoded, for ever."""
        while True:
            batch = [await self._decoded.get()]
            with suppress(asyncio.QueueEmpty):
                while len(batch) < BATCH:
                    batch.append(self._decoded.get_nowait())
            batch = [waiting for waiting in batch if not waiting.answer.done()]  # whom nobody waits for any more
            self._counters.batches.observe(len(batch))
            try:
                scored = await asyncio.to_thread(self._score, [waiting.pixels for waiting in batch])
            except Exception as error:  # it is for those who wait to answer, and others come after them
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)
                continue
            for waiting, of_image in zip(batch, scored, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(of_image)

    def _score(self, batch: Sequence[Pixels]) -> list[Scored]:
        if not batch:
            return []
        model = self.model
        scores, features = model.answers([model.frames_of(pixels.grey) for pixels in batch], "cpu")
        verdicts = model.judge([model.glance(pixels.grey, pixels.shorter) for pixels in batch], features)
        return list(zip(findings_of(model, model.table(scores, verdicts)), verdicts, strict=True))
