"""The page's server: who is let in, and which request goes where.

Whoever has the token of this start gets a session, by a cookie that no script reads; every other request is refused.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mococxr.annotation.desk import Desk, Session
from mococxr.annotation.worklist import ChangedElsewhere
from mococxr.errors import InputError, RunError

HOSTS = ["127.0.0.1", "localhost"]
"""Names by which this server may be called: under another one somebody else's page would ask (DNS rebinding)."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # images of patients stay in no cache
}
FILES = {"page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
CLOSED = "Not let in. Open the address that the terminal shows; each start of the server has a new one."
LARGEST_BODY = 1 << 16


class Sessions:
    """The sessions of one start, by the value of their cookie.

    Args:
        token: in the address that the terminal shows.
        cookie: its name; 127.0.0.1 has one set of cookies for all ports, so each server needs its own.
    """

    def __init__(self, token: str, cookie: str) -> None:
        self.token, self.cookie = token, cookie
        self._sessions: dict[str, Session] = {}

    def begin(self, token: str) -> str | None:
        """The cookie of a new session, where the token is right."""
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            return None
        secret = secrets.token_urlsafe(32)
        self._sessions[secret] = Session()
        return secret

    def of(self, request: Request) -> Session | None:
        """The session of a request, where there is one."""
        return self._sessions.get(request.cookies.get(self.cookie, ""))


class Guard:
    """Lets nobody in without a session, and puts the same headers on every answer."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self.app, self.sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":  # no websocket, and nothing to start or stop
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app, session = self.app, self.sessions.of(Request(scope))
        scope["session"] = session
        if session is None and scope["path"] != "/enter":
            app = PlainTextResponse(CLOSED, 401)
        elif scope["method"] not in ("GET", "HEAD") and not _from_the_page(Headers(scope=scope)):
            app = PlainTextResponse("Refused: this page did not send it.", 403)
        await app(scope, receive, with_headers)


def _from_the_page(headers: Headers) -> bool:
    """Whether a request was sent by a page of this server, as browsers say it, and is of its size."""
    is_json = headers.get("content-type", "").split(";")[0] == "application/json"
    size = headers.get("content-length", "")
    is_small = size.isdecimal() and int(size) <= LARGEST_BODY
    return is_json and is_small and headers.get("origin") == f"http://{headers.get('host')}"


def application(desk: Desk, sessions: Sessions) -> Starlette:
    """The server as an ASGI application."""
    routes = [
        Route("/enter", _enter(sessions)),
        Route("/", _page),
        Route("/work", _json(desk.open)),
        Route("/reader", _json(desk.join), methods=["POST"]),
        Route("/answer", _json(desk.answer), methods=["POST"]),
        Route("/skip", _json(desk.skip), methods=["POST"]),
        Route("/item/{number:int}", _json(desk.item)),
        Route("/image/{number:int}/{other:int}", _image(desk)),
        Route("/{name}", _page),
    ]
    guards = [Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS), Middleware(Guard, sessions=sessions)]
    return Starlette(routes=routes, middleware=guards)


def _enter(sessions: Sessions) -> Callable[[Request], Any]:
    async def enter(request: Request) -> Response:
        secret = sessions.begin(request.query_params.get("token", ""))
        if secret is None:
            return PlainTextResponse(CLOSED, 401)
        # no redirect: after a link from another site that would come without a strict cookie
        page = HTMLResponse('<!doctype html><meta http-equiv="refresh" content="0;url=/"><title>Label images</title>')
        page.set_cookie(sessions.cookie, secret, httponly=True, samesite="strict", path="/")
        return page

    return enter


async def _page(request: Request) -> Response:
    name = request.path_params.get("name", "page.html")
    if name not in FILES:
        return PlainTextResponse("There is no such page.", 404)
    return Response((Path(__file__).parent / name).read_bytes(), media_type=FILES[name])


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
