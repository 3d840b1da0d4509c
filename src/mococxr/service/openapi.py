"""`/openapi.json` and the page that shows it, both made from the dataclasses of `answers`."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from mococxr.pages.render import render
from mococxr.service.answers import (
    USE,
    Finding,
    Health,
    ImageAnswer,
    ModelFacts,
    ModelName,
    Prediction,
    Problem,
    Target,
)
from mococxr.settings import ServeSettings
from mococxr.version import VERSION

CLASSES = (Prediction, ImageAnswer, Finding, ModelFacts, ModelName, Target, Health, Problem)
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
IMAGES = {
    **{kind: _BINARY for kind in ("application/octet-stream", "application/dicom", "image/png", "image/jpeg")},
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {"image": {"type": "array", "items": {"type": "string", "format": "binary"}}},
        }
    },
}


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON schema of a type of a field."""
    if dataclasses.is_dataclass(kind):
        return {"$ref": f"#/components/schemas/{typing.cast(type, kind).__name__}"}
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return {"type": "array", "items": schema_of(inner[0])}
    if origin in (typing.Union, types.UnionType):
        return {"type": [_PLAIN[part] for part in inner]}
    return {"type": _PLAIN[kind]}


def _class(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    properties = {
        field.name: {**schema_of(hints[field.name]), "description": field.metadata["help"]}
        for field in dataclasses.fields(kind)
    }
    return {
        "type": "object",
        "description": (kind.__doc__ or "").strip(),
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def document(settings: ServeSettings) -> dict[str, Any]:
    """The service in the words of OpenAPI 3.1."""
    limits = (
        f"A body may have {settings.max_body:g} MB and {settings.queue} images, an image {settings.max_pixels:g} million "
        f"pixels; an answer comes within {settings.timeout:g} seconds."
    )
    predict = _operation(
        f"Score images: the file of one as the body, or several as the parts of a form. {limits}",
        {"200": Prediction, "422": Prediction, **dict.fromkeys(("400", "408", "413", "429", "503"), Problem)},
    )
    predict["requestBody"] = {"required": True, "content": IMAGES}
    paths = {
        "/predict": {"post": predict},
        "/model": {"get": _operation("What is served.", {"200": ModelFacts})},
        "/metrics": {"get": _operation("Counters for Prometheus.", {"200": None})},
        "/health": {
            "get": {**_operation("Whether the service answers; open to all.", {"200": Health}), "security": []}
        },
    }
    del paths["/health"]["get"]["responses"]["401"]
    return {
        "openapi": "3.1.0",
        "info": {"title": "mococxr serve", "version": VERSION, "description": USE},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": {kind.__name__: _class(kind) for kind in CLASSES},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


STATUS = {
    "200": "done", "400": "no image, or no form", "401": "no token, or a wrong one", "408": "the body came too slowly",
    "413": "too large, or too many images", "422": "none of the images can be read",
    "429": "busy: try again after Retry-After", "503": "no answer in time",
}  # fmt: skip


def _operation(summary: str, answers: dict[str, type | None]) -> dict[str, Any]:
    responses = {}
    for status, kind in sorted({**answers, "401": Problem}.items()):
        content = (
            {"text/plain": {"schema": {"type": "string"}}}
            if kind is None
            else {"application/json": {"schema": schema_of(kind)}}
        )
        responses[status] = {"description": STATUS[status], "content": content}
    return {"summary": summary, "responses": responses}


def page(described: dict[str, Any]) -> str:
    """The document as a page for people."""
    return render("service/docs.html.j2", described=described, title="mococxr serve")
