"""One line a request: when, what, how it ended, how much, how long. No file name, no value of a file, no address."""

from __future__ import annotations

import secrets
import time
import traceback
from dataclasses import dataclass, field

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mococxr import console
from mococxr.service.answers import Problem, plain
from mococxr.service.prometheus import Counters

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
QUIET = ("/health", "/metrics")
"""Asked all the time: a line only where they fail."""


class _NobodyListens(Exception):
    """The answer could not be sent."""


@dataclass
class Entry:
    """What is known of a request."""

    request: str = field(default_factory=lambda: secrets.token_hex(4))
    images: int = 0
    unread: int = 0
    size: int = 0
    status: int = 0


class RequestLog:
    """Logs and counts the requests of an application, and answers 500 where it fails.

    Args:
        paths: that are named; another is `other`, since who asks may write anything there.
    """

    def __init__(self, app: ASGIApp, counters: Counters, paths: tuple[str, ...]) -> None:
        self.app, self.counters, self.paths = app, counters, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        entry = scope["entry"] = Entry()
        begun = time.perf_counter()

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = entry.request
            try:
                await send(message)
            except Exception as error:  # the client broke the connection, or what HTTP is
                raise _NobodyListens from error

        try:
            await self.app(scope, receive, noting)
        except _NobodyListens:
            entry.status = 499
        except Exception as error:  # its text may quote what was sent
            at = traceback.extract_tb(error.__traceback__)[-1]
            console.warn(f"{entry.request}: unexpected {type(error).__name__} at {at.name}:{at.lineno}")
            if not entry.status:
                problem = Problem("Unexpected.", f"Tell who runs the service: the request was {entry.request}.")
                await JSONResponse(plain(problem), 500)(scope, receive, noting)
        self._note(scope, entry, time.perf_counter() - begun)

    def _note(self, scope: Scope, entry: Entry, seconds: float) -> None:
        path = scope["path"] if scope["path"] in self.paths else "other"
        self.counters.requests.labels(path, entry.status).inc()
        self.counters.seconds.labels(path).observe(seconds)
        if path in QUIET and entry.status < 400:
            return
        method = scope["method"] if scope["method"] in METHODS else "other"
        clock = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        facts = [f"{1000 * seconds:.0f} ms"]
        if entry.images:
            facts = [f"images {entry.images}", f"unread {entry.unread}", f"{entry.size / 1e6:.2f} MB", *facts]
        console.say(f"{clock} {method} {path} {entry.status} {entry.request} {', '.join(facts)}")
