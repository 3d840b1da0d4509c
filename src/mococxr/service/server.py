"""The service as an ASGI application: which request goes where, and what each is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from mococxr import web
from mococxr.classifier.saved import Model
from mococxr.service import openapi
from mococxr.service.access import CLOSED, Authentication
from mococxr.service.answers import USE, Health, ImageAnswer, Prediction, Problem, facts_of, name_of, plain
from mococxr.service.bodies import Bodies, Refused
from mococxr.service.decoding import Decoder
from mococxr.service.prometheus import MEDIA_TYPE, Counters
from mococxr.service.request_log import Entry, RequestLog
from mococxr.service.scoring import Busy, Scorer
from mococxr.settings import ServeSettings

FILES = {"page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
PATHS = (
    "/predict", "/health", "/model", "/metrics", "/openapi.json", "/docs", "/", "/enter", "/favicon.ico",
    *(f"/{name}" for name in FILES),
)  # fmt: skip
BUSY = Refused(
    429,
    "The service has as much to do as it takes.",
    "Send it again after the seconds of Retry-After.",
    {"Retry-After": "2"},
)


class Service:
    """A model with its processes, and what its endpoints answer.

    Args:
        model: with a graph.
        settings: of the command.
        jobs: processes that decode.
    """

    def __init__(self, model: Model, settings: ServeSettings, jobs: int) -> None:
        self.model, self.settings = model, settings
        self.counters = Counters(name_of(model))
        self.bodies = Bodies(round(settings.max_body * 1e6), settings.queue, BUSY)
        reading = replace(model.reading, max_pixels=round(settings.max_pixels * 1e6))
        size = model.record["preprocessing"]["store_size"]
        self.decoder = Decoder(reading, size, jobs, settings.timeout, self.counters.decoders.inc)
        self.scorer = Scorer(model, self.decoder, settings.queue, self.counters)

    @asynccontextmanager
    async def running(self, _: Starlette) -> AsyncIterator[None]:
        """Processes and scoring, for as long as requests are answered."""
        await self.decoder.start()
        scoring = asyncio.create_task(self.scorer.run())
        try:
            yield
        finally:
            scoring.cancel()
            with suppress(asyncio.CancelledError):
                await scoring
            await self.decoder.stop()

    async def predict(self, request: Request) -> Response:
        """Scores of the images of a request."""
        entry: Entry = request.scope["entry"]
        try:
            with self.bodies.room(self.bodies.size_of(request)):
                images = await self._images(request)
                entry.images, entry.size = len(images), sum(map(len, images))
                answers = await self._answers(images)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        entry.unread = sum(answer.problem is not None for answer in answers)
        prediction = Prediction(entry.request, name_of(self.model), tuple(answers), USE)
        return JSONResponse(plain(prediction), 422 if entry.unread == len(answers) else 200)

    async def _images(self, request: Request) -> list[bytes]:
        try:
            async with asyncio.timeout(self.settings.timeout):
                return await self.bodies.images_of(request)
        except TimeoutError as error:
            raise Refused(
                408, f"The body did not come within {self.settings.timeout:g} seconds.", "Send fewer images at once."
            ) from error

    async def _answers(self, images: list[bytes]) -> list[ImageAnswer]:
        try:
            async with asyncio.timeout(self.settings.timeout):
                return await self.scorer.answers(images)
        except Busy as error:
            raise BUSY from error
        except TimeoutError as error:
            raise Refused(
                503, f"There was no answer within {self.settings.timeout:g} seconds.", "Send it again, or fewer at once.",
                {"Retry-After": "5"},
            ) from error  # fmt: skip

    async def metrics(self, _: Request) -> Response:
        """The numbers of `Counters`."""
        return Response(self.counters.text(), media_type=MEDIA_TYPE)


def application(service: Service, sessions: web.Sessions[str], hosts: list[str]) -> Starlette:
    """The service as an ASGI application.

    Args:
        hosts: names by which it may be called; `*` allows any.
    """
    page, document = web.page_files(Path(__file__).parent, FILES), openapi.document(service.settings)
    routes = [
        Route("/predict", service.predict, methods=["POST"]),
        Route("/health", _fixed(JSONResponse, plain(Health("ok")))),
        Route("/model", _fixed(JSONResponse, plain(facts_of(service.model)))),
        Route("/metrics", service.metrics),
        Route("/openapi.json", _fixed(JSONResponse, document)),
        Route("/docs", _fixed(HTMLResponse, openapi.page(document))),
        Route("/enter", web.enter(sessions, "Score an image", CLOSED)),
        Route("/", page),
        Route("/favicon.ico", web.no_icon),
        *(Route(f"/{name}", page) for name in FILES),
    ]
    middleware = [
        Middleware(RequestLog, counters=service.counters, paths=PATHS),
        Middleware(web.SafeHeaders),
        Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
        Middleware(Authentication, sessions=sessions),
    ]
    handlers: dict[Any, Any] = {Refused: _refused, HTTPException: _no_such}
    return Starlette(routes=routes, middleware=middleware, lifespan=service.running, exception_handlers=handlers)


def _fixed(kind: Callable[..., Response], content: Any) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that always answers the same."""

    async def endpoint(_: Request) -> Response:
        return kind(content)

    return endpoint


async def _refused(_: Request, error: Refused) -> Response:
    return JSONResponse(plain(Problem(error.problem, error.way_out)), error.status, error.headers)


async def _no_such(_: Request, error: HTTPException) -> Response:
    problem = Problem(
        f"{error.detail}: there is no such path, or not by this method.", "/openapi.json lists what there is."
    )
    return JSONResponse(plain(problem), error.status_code, error.headers)
