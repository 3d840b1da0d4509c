"""The command `serve`: a MODEL -> a service that scores the images sent to it, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import os

from mococxr import console, web, workers
from mococxr.classifier.saved import Model, load_model
from mococxr.errors import InputError
from mococxr.service.access import SESSION_SECONDS, VARIABLE, new_token, read_token
from mococxr.service.server import Service, application
from mococxr.settings import ServeSettings

CONNECTIONS = 512
"""At once; another is refused with 503."""


def run(settings: ServeSettings) -> None:
    """Serve until Ctrl-C or SIGTERM; what was taken in before is answered.

    Raises:
        InputError: no model, one without a graph, a port in use, or a file that holds no token.
    """
    model = load_model(settings.model, settings.jobs)
    _check_graph(model)
    token = read_token(settings.token_file, os.environ)
    with web.listening(settings.host, settings.port) as listener:
        port = listener.getsockname()[1]
        sessions = web.Sessions(token or new_token(), f"mococxr-serve-{port}", str, SESSION_SECONDS)
        local = settings.host in web.HOSTS
        service = Service(model, settings, settings.jobs or workers.cores())
        app = application(service, sessions, web.HOSTS if local else ["*"])
        _say(settings, model, port, None if token else sessions.token)
        if not local:
            console.warn(
                f"{settings.host} can be reached from other machines, and what is sent is not encrypted: put a proxy "
                "with TLS before it."
            )
        web.serve(
            app, listener, grace=settings.timeout + 5, lifespan="on", log_config=None, limit_concurrency=CONNECTIONS,
            backlog=CONNECTIONS,
        )  # fmt: skip
    console.say("Stopped; what was taken in is answered.")


def _check_graph(model: Model) -> None:
    graph = model.record.get("onnx") or {}
    if not graph.get("file"):
        raise InputError(
            f"{model.folder} has no model.onnx{': ' + graph['reason'] if graph.get('reason') else ''}.",
            "Fit it again without --no-onnx; a network that has no graph cannot be served.",
        )


def _say(settings: ServeSettings, model: Model, port: int, made: str | None) -> None:
    """Where it is, and how to get in; a token is shown only where it was made."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{port}"
    token = made or "TOKEN"
    console.say(
        f"Serving {', '.join(model.targets)} by {model.folder} at {address} (research use). Ctrl-C ends it.\n"
        f"  Page:   {address}/enter?token={token}\n"
        f"  Script: curl -H 'Authorization: Bearer {token}' --data-binary @IMAGE {address}/predict"
    )
    if made is not None:
        console.say(f"  This token was made for this start; keep one in --token-file or {VARIABLE}.")
