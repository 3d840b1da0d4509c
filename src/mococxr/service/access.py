"""Who is let in: whoever has the token, as a header or, in a browser, exchanged for a session."""

from __future__ import annotations

import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mococxr import console, web
from mococxr.errors import InputError
from mococxr.service.answers import Problem, plain

VARIABLE = "MOCOCXR_TOKEN"
LEAST = 16
"""Characters of a token."""
OPEN = ("/health", "/enter")
"""Paths that need no token; the second looks at it itself."""
SESSION_SECONDS = 12 * 3600.0
CLOSED = "Not let in. Open the address with the token, .../enter?token=TOKEN, as the start of the service shows it."


def read_token(file: Path | None, variables: Mapping[str, str]) -> str | None:
    """The token of the file, else of the variable; None where there is neither.

    Raises:
        InputError: the file cannot be read, or what it or the variable holds is no token.
    """
    if file is not None:
        return _checked(_content(file), str(file))
    return _checked(variables[VARIABLE], VARIABLE) if VARIABLE in variables else None


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(32)


def _content(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
        mode = file.stat().st_mode
    except OSError as error:
        raise InputError(
            f"Cannot read --token-file {file}: {error.strerror}.", f"Name a file with the token, or set {VARIABLE}."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"--token-file {file} holds no text.", "Write the token into it, on one line.") from error
    if mode & stat.S_IROTH:
        console.warn(f"Everybody on this machine may read {file}: chmod 600 {file}")
    return text


def _checked(text: str, source: str) -> str:
    token = text.strip()
    if len(token) < LEAST or not all("!" <= letter <= "~" for letter in token):
        raise InputError(
            f"{source} holds no token of at least {LEAST} letters, digits and signs, without blanks.",
            "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'; without one `serve` makes it.",
        )
    return token


class Authentication:
    """Lets nobody in without the token or a session."""

    def __init__(self, app: ASGIApp, sessions: web.Sessions[str]) -> None:
        self.app, self.sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it before its body is read."""
        app = self.app
        if scope["type"] == "http" and scope["path"] not in OPEN:
            app = self._refusal(scope) or app
        await app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.sessions.is_token(token.strip()):
            return None
        if self.sessions.of(Request(scope)) is None:
            if scope["path"] == "/":
                return PlainTextResponse(CLOSED, 401)
            problem = Problem(
                "Not let in: the token is missing or wrong.", "Send the header `Authorization: Bearer TOKEN`."
            )
            return JSONResponse(plain(problem), 401, {"WWW-Authenticate": "Bearer"})
        if scope["method"] not in ("GET", "HEAD") and not web.is_own_page(headers):
            problem = Problem("Another page than that of this service sent it.", "Send the token as a header instead.")
            return JSONResponse(plain(problem), 403)
        return None
