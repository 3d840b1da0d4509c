"""Settings of `serve`: a fitted classifier that answers over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mococxr.settings.fields import WithJobs, setting, under

_address, _limits = under("Address", "Limits")


@dataclass(frozen=True, kw_only=True)
class ServeSettings(WithJobs):
    """Serve a fitted classifier over HTTP, to this machine alone: send images, get scores; a page to drop an image on.

    Research use. All but /health needs a token: of --token-file, else of the variable MOCOCXR_TOKEN, else made and shown.
    """

    model: Path = setting("A model folder made by `fit`, with its model.onnx.", positional=True)
    host: str = _address("Address to serve at; another than 127.0.0.1 can be reached from other machines.", "127.0.0.1")
    port: int = _address("Port; 0 takes a free one.", 8000, low=0, high=65535)
    token_file: Path | None = _address(
        "File that holds the token, at least 16 characters, for its owner alone.",
        None,
        shown="MOCOCXR_TOKEN, else made",
    )
    max_body: float = _limits("Largest body of a request.", 100.0, unit="MB", above=0, high=1024)
    max_pixels: float = _limits(
        "Largest image; the largest detectors give about 20.", 50.0, unit="million pixels", above=0, high=120
    )
    queue: int = _limits(
        "Images that are read or wait; beyond that a request is answered 429.", 64, unit="images", low=1, high=10_000
    )
    timeout: float = _limits(
        "Time that a request, and the decoding of an image, may take.", 30.0, unit="s", low=1, high=600
    )
