"""The page's server: who is let in, and which request goes where.

Whoever has the token of this start gets a session, by a cookie that no script reads; every other request is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mococxr import web
from mococxr.annotation.desk import Desk, Session
from mococxr.annotation.worklist import ChangedElsewhere
from mococxr.errors import InputError, RunError
from mococxr.web import Sessions

FILES = {"page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
CLOSED = "Not let in. Open the address that the terminal shows; each start of the server has a new one."
LARGEST_BODY = 1 << 16


class Guard:
    """Lets nobody in without a session."""

    def __init__(self, app: ASGIApp, sessions: Sessions[Session]) -> None:
        self.app, self.sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":  # no websocket, and nothing to start or stop
            return
        app, session = self.app, self.sessions.of(Request(scope))
        scope["session"] = session
        if session is None and scope["path"] != "/enter":
            app = PlainTextResponse(CLOSED, 401)
        elif scope["method"] not in ("GET", "HEAD") and not _from_the_page(Headers(scope=scope)):
            app = PlainTextResponse("Refused: this page did not send it.", 403)
        await app(scope, receive, send)


def _from_the_page(headers: Headers) -> bool:
    """Whether a request was sent by a page of this server, as browsers say it, and is of its size."""
    is_json = headers.get("content-type", "").split(";")[0] == "application/json"
    size = headers.get("content-length", "")
    is_small = size.isdecimal() and int(size) <= LARGEST_BODY
    return is_json and is_small and web.is_own_page(headers)


def application(desk: Desk, sessions: Sessions[Session]) -> Starlette:
    """The server as an ASGI application."""
    page = web.page_files(Path(__file__).parent, FILES)
    routes = [
        Route("/enter", web.enter(sessions, "Label images", CLOSED)),
        Route("/", page),
        Route("/work", _json(desk.open)),
        Route("/reader", _json(desk.join), methods=["POST"]),
        Route("/answer", _json(desk.answer), methods=["POST"]),
        Route("/skip", _json(desk.skip), methods=["POST"]),
        Route("/item/{number:int}", _json(desk.item)),
        Route("/image/{number:int}/{other:int}", _image(desk)),
        Route("/favicon.ico", web.no_icon),
        Route("/{name}", page),
    ]
    guards = [
        Middleware(TrustedHostMiddleware, allowed_hosts=web.HOSTS),
        Middleware(web.SafeHeaders),
        Middleware(Guard, sessions=sessions),
    ]
    return Starlette(routes=routes, middleware=guards)


def _json(do: Callable[[Session, Any], Any]) -> Callable[[Request], Any]:
    """What a function gives for a session and what was sent, or what is wrong with it, in words."""

    async def endpoint(request: Request) -> Response:
        session: Session = request.scope["session"]
        try:
            body = json.loads(await request.body()) if request.method == "POST" else request.path_params.get("number")
            return JSONResponse(await run_in_threadpool(do, session, body))
        except InputError as error:
            status = 409 if isinstance(error, ChangedElsewhere) else 400
            return JSONResponse({"problem": f"{error.problem} {error.way_out}"}, status)
        except RunError as error:  # no room on the disk, say
            return JSONResponse({"problem": str(error)}, 500)
        except (KeyError, TypeError, ValueError, AttributeError):
            return JSONResponse({"problem": "That is nothing that the page sends."}, 400)

    return endpoint


def _image(desk: Desk) -> Callable[[Request], Any]:
    async def image(request: Request) -> Response:
        number, other = request.path_params["number"], request.path_params["other"]
        try:
            data, facts = await run_in_threadpool(desk.image, number, other, request.query_params)
        except InputError as error:
            return JSONResponse({"problem": error.problem}, 404)
        return Response(data, media_type="image/png", headers=facts)

    return image
