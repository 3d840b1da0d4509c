"""What the local servers share: a socket, who is let in, the headers of every answer, and the files of a page."""

from __future__ import annotations

import hmac
import secrets
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from mococxr.errors import InputError

if TYPE_CHECKING:  # starlette and uvicorn are imported where a server runs
    from starlette.datastructures import Headers
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

S = TypeVar("S")
LOCAL = "127.0.0.1"
HOSTS = [LOCAL, "localhost"]
"""Names by which a server of this machine may be called: under another somebody else's page would ask (DNS rebinding)."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # what is about patients stays in no cache
}
MOST_SESSIONS = 1000
"""Sessions above which the oldest ends."""


def listening(host: str, port: int) -> socket.socket:
    """A socket to serve from; requests wait for the server from now on.

    Args:
        port: 0 takes a free one.

    Raises:
        InputError: no such address on this machine, or the port is in use.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)  # a server that was killed leaves its port waiting
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no such address"
        raise InputError(
            f"Port {port} of {host} cannot be used: {reason}.",
            "Name another --port." if host == LOCAL else "Name another --port or --host.",
        ) from error


def serve(app: ASGIApp, listener: socket.socket, *, grace: float, **options: Any) -> None:
    """Answer requests until Ctrl-C or SIGTERM, then finish those that have begun.

    Args:
        grace: seconds after which the rest is given up.
        options: further ones of `uvicorn.Config`.
    """
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, ws="none", http="h11", server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=max(1, round(grace)), **options,
    )  # fmt: skip
    # uvicorn raises the signal again when it is done, which would end the process before its caller cleans up
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _stop) if main else None
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # the way to end it
        return
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


class Sessions(Generic[S]):
    """The sessions of one start, by the value of their cookie.

    Args:
        token: what lets in.
        cookie: its name; 127.0.0.1 has one set of cookies for all ports, so each server needs its own.
        new: makes what is kept of a session.
        seconds: how long a session lasts; None: as long as the server.
    """

    def __init__(self, token: str, cookie: str, new: Callable[[], S], seconds: float | None = None) -> None:
        self.token, self.cookie, self.new, self.seconds = token, cookie, new, seconds
        self._sessions: dict[str, tuple[float, S]] = {}

    def is_token(self, token: str) -> bool:
        """Whether this is the token; how long the answer takes tells nothing of it."""
        return hmac.compare_digest(token.encode(errors="replace"), self.token.encode())

    def begin(self, token: str) -> str | None:
        """The cookie of a new session, where the token is right."""
        if not self.is_token(token):
            return None
        secret = secrets.token_urlsafe(32)
        self._sessions[secret] = time.monotonic(), self.new()
        for oldest in list(self._sessions)[:-MOST_SESSIONS]:
            del self._sessions[oldest]
        return secret

    def of(self, request: Request) -> S | None:
        """The session of a request, where there is one."""
        secret = request.cookies.get(self.cookie, "")
        begun, session = self._sessions.get(secret, (0.0, None))
        if session is not None and self.seconds is not None and time.monotonic() - begun > self.seconds:
            del self._sessions[secret]
            return None
        return session


class SafeHeaders:
    """Puts `HEADERS` on every answer of an application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        from starlette.datastructures import MutableHeaders

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers)


def is_own_page(headers: Headers) -> bool:
    """Whether a page of this server sent a request, as browsers say it; no page can say it of itself."""
    host = headers.get("host")
    # behind a proxy with TLS the page's address is another than the one asked here
    return headers.get("sec-fetch-site") == "same-origin" or headers.get("origin") in (
        f"http://{host}",
        f"https://{host}",
    )


def enter(sessions: Sessions[Any], title: str, closed: str) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint that exchanges the token in its address for a cookie that no script reads."""
    from starlette.responses import HTMLResponse, PlainTextResponse

    async def endpoint(request: Request) -> Response:
        secret = sessions.begin(request.query_params.get("token", ""))
        if secret is None:
            return PlainTextResponse(closed, 401)
        # no redirect: after a link from another site that would come without a strict cookie
        page = HTMLResponse(f'<!doctype html><meta http-equiv="refresh" content="0;url=/"><title>{title}</title>')
        page.set_cookie(sessions.cookie, secret, httponly=True, samesite="strict", path="/")
        return page

    return endpoint


def page_files(folder: Path, files: Mapping[str, str]) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a page's files: name -> media type; the first is the page itself."""
    from starlette.responses import PlainTextResponse, Response

    async def endpoint(request: Request) -> Response:
        name = request.url.path.lstrip("/") or next(iter(files))
        if name not in files:
            return PlainTextResponse("There is no such page.", 404)
        return Response((folder / name).read_bytes(), media_type=files[name])

    return endpoint


def no_icon(_: Request) -> Response:
    """Browsers ask every server for an icon; there is none, which is no fault."""
    from starlette.responses import Response

    return Response(status_code=204)
