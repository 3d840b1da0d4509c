"""The classifier over HTTP: what it answers is what `predict` says, who is let in, and what is refused how."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

import mococxr
from archive_images import grey_image, image
from mococxr import web
from mococxr.classifier.saved import Model, load_model
from mococxr.errors import ImageError, InputError
from mococxr.files import read_json, write_json
from mococxr.images import Reading
from mococxr.service import decoding, serve
from mococxr.service.access import read_token
from mococxr.service.answers import Prediction
from mococxr.service.bodies import TIMES
from mococxr.service.openapi import document
from mococxr.service.server import Service, application
from mococxr.settings import ServeSettings, make
from small_store import HOW

jsonschema = pytest.importorskip("jsonschema")
TOKEN = "a-token-for-tests-alone"
ADDRESS = "http://127.0.0.1:8000"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def model(store: Any, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small model of two targets, the first with calibration and threshold; PyTorch stands in for its graph."""
    folder = mococxr.fit(
        store.path, target=["Finding", "Rare"], out=tmp_path_factory.mktemp("serve") / "model", encoder="random", **HOW
    )
    record = read_json(folder / "model.json")
    record["targets"][0] |= {
        "calibration": {"method": "platt", "parameters": {"slope": 1.7, "intercept": -0.4}, "prevalence": 0.3},
        "threshold": {"value": 0.3},
    }
    write_json(folder / "model.json", record)
    return load_model(folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One image as PNG, as JPEG, and as DICOM with names in it."""
    grey = grey_image(np.random.default_rng(0), 90, 80)
    path = tmp_path_factory.mktemp("dicom") / "image.dcm"
    image(grey, patient="Doe^Jane", study="1.2", sop="1.3").save_as(path, enforce_file_format=True)
    pixels = np.random.default_rng(1).integers(0, 256, (90, 80), dtype=np.uint8)
    return {
        "png": bytes(cv2.imencode(".png", pixels)[1]),
        "jpeg": bytes(cv2.imencode(".jpg", pixels)[1]),
        "dicom": path.read_bytes(),
    }


class Here:
    """Decodes in this process, as the processes of the service do."""

    def __init__(self, reading: Reading, size: int, *_: Any) -> None:
        self.reading, self.size, self.wait = reading, size, 0.0

    async def start(self) -> None:
        """Nothing is started."""

    async def stop(self) -> None:
        """Nor ended."""

    async def __call__(self, data: bytes) -> Any:
        await asyncio.sleep(self.wait)
        return decoding.read(data, self.reading, self.size)


@pytest.fixture
def client(model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes clients of services with these settings."""
    monkeypatch.setattr("mococxr.service.server.Decoder", Here)
    opened: list[TestClient] = []

    def make_client(headers: dict[str, str] | None = BEARER, **settings: Any) -> TestClient:
        service = Service(model, make(ServeSettings, {"model": model.folder, **settings}), 1)
        app = application(service, web.Sessions(TOKEN, "session", str, 60), web.HOSTS)
        app.state.service = service
        opened.append(TestClient(app, base_url=ADDRESS, headers=headers).__enter__())
        return opened[-1]

    yield make_client
    for each in opened:
        each.__exit__(None, None, None)


def png_that_declares(width: int, height: int) -> bytes:
    """A PNG of few bytes whose header declares many pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 16))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


# --- what is answered


def test_the_service_says_what_predict_says_and_answers_are_of_the_form_that_openapi_says(client, model, files):
    asked = client()
    expected = model.predict(list(files.values()))
    form = asked.post("/predict", files=[("image", (f"{name}.x", data)) for name, data in files.items()])
    alone = [asked.post("/predict", content=data).json()["images"][0] for data in files.values()]
    assert form.status_code == 200
    schema = document(make(ServeSettings, {"model": model.folder}))
    validator = jsonschema.Draft202012Validator(
        {**schema["components"]["schemas"]["Prediction"], "components": schema["components"]}
    )
    validator.validate(form.json())
    validator.validate(asked.post("/predict", content=b"no image").json())
    assert [each["image"] for each in form.json()["images"]] == [1, 2, 3]
    for row, images in enumerate(zip(form.json()["images"], alone, strict=True)):
        for each in images:
            assert [finding["target"] for finding in each["findings"]] == ["Finding", "Rare"]
            assert (each["view"], each["warning"]) == (expected["view"][row], expected["warning"][row])
            for finding, block in zip(each["findings"], model.record["targets"], strict=True):
                name, threshold = finding["target"], block["threshold"]["value"]
                assert finding["score"] == pytest.approx(expected[f"score_{name}"][row], abs=1e-6)
                assert finding["calibrated"] == pytest.approx(expected[f"calibrated_{name}"][row], abs=1e-6)
                assert (finding["decision"], finding["threshold"]) == (expected[f"decision_{name}"][row], threshold)
    assert [block["threshold"]["value"] is None for block in model.record["targets"]] == [False, True]


def test_an_image_that_cannot_be_read_costs_no_other(client, files):
    parts = [("a", ("a", files["png"])), ("b", ("b", b"GIF89a")), ("c", ("c", png_that_declares(40_000, 40_000)))]
    answer = client().post("/predict", files=parts)
    assert answer.status_code == 200
    first, second, third = answer.json()["images"]
    assert first["problem"] is None
    assert "looks like GIF" in second["problem"]
    assert "40,000 x 40,000 pixels: over the limit" in third["problem"]
    assert second["findings"] == third["findings"] == []
    assert client().post("/predict", files=parts[1:]).status_code == 422


def test_openapi_names_every_path_and_the_page_of_it_loads_nothing_from_elsewhere(client):
    asked = client()
    described = asked.get("/openapi.json").json()
    assert set(described["paths"]) == {"/predict", "/model", "/metrics", "/health"}
    for name, kind in described["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(kind)
        assert all(field["description"] for field in kind["properties"].values()), name
    assert set(described["components"]["schemas"]["Prediction"]["properties"]) == {
        field.name for field in dataclasses.fields(Prediction)
    }
    for path in ("/", "/docs", "/page.js", "/page.css"):
        answer = asked.get(path)
        assert answer.status_code == 200, path
        assert "//" not in re.sub(r"// .*", "", answer.text), path
        assert answer.headers["content-security-policy"].startswith("default-src 'none';")


def test_metrics_count_requests_images_and_what_waits(client, files):
    asked = client()
    asked.post("/predict", content=files["png"])
    asked.post("/predict", content=b"no image")
    text = asked.get("/metrics").text
    assert 'mococxr_requests_total{path="/predict",status="200"} 1.0' in text
    assert 'mococxr_requests_total{path="/predict",status="422"} 1.0' in text
    assert 'mococxr_images_total{outcome="scored"} 1.0' in text
    assert 'mococxr_images_total{outcome="refused"} 1.0' in text
    assert "mococxr_images_waiting 0.0" in text


# --- who is let in


@pytest.mark.parametrize("path", ["/", "/predict", "/model", "/metrics", "/openapi.json", "/docs", "/page.js", "/no"])
def test_all_but_health_needs_the_token(client, path):
    for headers in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}, {"Cookie": "session=x"}):
        answer = client(headers=headers).request("POST" if path == "/predict" else "GET", path)
        assert answer.status_code == 401, headers
    assert client(headers={}).get("/health").json() == {"status": "ok"}
    assert client(headers={}).get("/enter?token=wrong").status_code == 401


def test_a_browser_gets_a_session_for_the_token_and_only_its_page_may_send_images(client, files):
    browser = client(headers={})
    cookie = browser.get(f"/enter?token={TOKEN}").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert browser.get("/").status_code == 200
    for origin, status in ((ADDRESS, 200), ("http://127.0.0.1:9", 403), ("", 403)):
        assert browser.post("/predict", content=files["png"], headers={"Origin": origin}).status_code == status
    for site, status in (("same-origin", 200), ("cross-site", 403), ("same-site", 403)):
        by_proxy = {"Origin": "https://ward.example", "Sec-Fetch-Site": site}
        assert browser.post("/predict", content=files["png"], headers=by_proxy).status_code == status
    assert browser.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_a_session_ends(client):
    browser = client(headers={})
    browser.get(f"/enter?token={TOKEN}")
    sessions = web.Sessions("t" * 16, "c", str, seconds=-1)
    secret = sessions.begin("t" * 16)
    request = type("Request", (), {"cookies": {"c": secret}})
    assert sessions.of(request) is None


# --- limits, each with its status and its way out


def test_what_is_too_much_is_refused_by_its_own_status(client, files):
    png = files["png"]
    asked = client(max_body=0.1, queue=3)
    large = asked.post("/predict", content=bytes(100_001))
    assert (large.status_code, large.json()["problem"]) == (413, "The body is over the limit of 0.1 MB.")
    unannounced = asked.post("/predict", content=iter([bytes(60_000), bytes(60_000)]))
    assert unannounced.status_code == 413
    many = asked.post("/predict", files=[("image", ("a", png))] * 4)
    assert (many.status_code, many.json()["problem"]) == (413, "More than 3 images in one request.")
    for status in (large, unannounced, many):
        assert "larger --" in status.json()["way_out"]
    asked.app.state.service.bodies.held = TIMES * 100_000
    busy = asked.post("/predict", content=png)
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "2")
    asked.app.state.service.bodies.held = 0
    asked.app.state.service.scorer.images = 3
    assert asked.post("/predict", content=png).status_code == 429
    asked.app.state.service.scorer.images = 0
    assert asked.post("/predict", content=png).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(client, files):
    asked = client(timeout=1)
    asked.app.state.service.decoder.wait = 30.0
    late = asked.post("/predict", content=files["png"])
    assert late.status_code == 503
    assert "within 1 seconds" in late.json()["problem"]
    asked.app.state.service.decoder.wait = 0.0
    assert asked.post("/predict", content=files["png"]).status_code == 200
    assert asked.app.state.service.scorer.images == asked.app.state.service.bodies.held == 0


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (b"", "image/png", "The body is empty."),
        (b"", "multipart/form-data; boundary=b", "ends before its last part"),
        (b"x", "multipart/form-data", "no multipart form"),
        (b"nonsense", "multipart/form-data; boundary=b", "no multipart form"),
        (b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nxyz', "multipart/form-data; boundary=b",
         "ends before its last part"),
        (b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nxyz\r\n--b--\r\n', "multipart/form-data; boundary=b",
         "Part 1 of the form is no file."),
    ],
)  # fmt: skip
def test_a_body_that_is_no_image_and_no_form_is_refused(client, content, kind, says):
    answer = client().post("/predict", content=content, headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert says in answer.json()["problem"]
    assert answer.json()["way_out"]


def test_paths_and_methods_that_there_are_not_are_named_as_such(client):
    assert client().get("/predict").status_code == 405
    assert client().get("/server.py").status_code == 404
    assert client().get("/%2e%2e/server.py").status_code == 404
    assert "openapi.json" in client().get("/no").json()["way_out"]


# --- the log


def test_the_log_names_no_file_no_patient_and_no_path_that_somebody_made_up(client, files, capsys, monkeypatch):
    asked = client()
    answer = asked.post("/predict", files=[("Doe", ("Doe_Jane.dcm", files["dicom"])), ("b", ("Doe.txt", b"Doe"))])
    asked.get("/Doe?name=Doe")
    asked.request("DOE", "/predict")
    asked.get("/health")
    monkeypatch.setattr(Model, "answers", lambda *_: 1 / 0)
    broken = asked.post("/predict", content=files["dicom"])
    assert broken.status_code == 500
    log = capsys.readouterr().err
    assert "Doe" not in log
    assert "DOE" not in log
    assert f"POST /predict 200 {answer.json()['request']} images 2, unread 1" in log
    assert "GET other 404" in log
    assert "/health" not in log
    assert f"{broken.headers['x-request-id']}: unexpected ZeroDivisionError" in log


def test_a_client_that_is_gone_is_no_fault_of_the_service(client, capsys):
    app = client().app

    async def ask() -> None:
        async def gone(_: Any) -> None:
            raise RuntimeError("the other end is closed")

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/health",
            "headers": [(b"host", b"localhost")],
            "query_string": b"",
        }
        await app({**scope, "app": app}, None, gone)

    asyncio.run(ask())
    log = capsys.readouterr().err
    assert "unexpected" not in log
    assert "GET /health 499" in log


# --- the command


def settings(model: Model, **others: Any) -> ServeSettings:
    return make(ServeSettings, {"model": model.folder, **others})


def test_bad_settings_are_refused_with_the_way_out(model, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"holds no model\.json"):
        mococxr.serve(tmp_path)
    with pytest.raises(InputError, match=r"has no model\.onnx") as error:
        serve.run(settings(model))
    assert "without --no-onnx" in error.value.way_out
    monkeypatch.setattr(serve, "_check_graph", lambda _: None)
    with web.listening(web.LOCAL, 0) as taken, pytest.raises(InputError, match="cannot be used") as error:
        serve.run(settings(model, port=taken.getsockname()[1]))
    assert "another --port" in error.value.way_out
    with pytest.raises(InputError, match=r"Port 0 of no\.such\.host\.invalid cannot be used"):
        serve.run(settings(model, host="no.such.host.invalid", port=0))


def test_a_token_comes_of_the_file_or_the_variable_and_a_bad_one_is_refused(tmp_path, capsys):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    assert read_token(file, {"MOCOCXR_TOKEN": "another-token-of-this-length"}) == TOKEN
    assert capsys.readouterr().err == ""
    file.chmod(0o644)
    assert read_token(file, {}) == TOKEN
    assert f"chmod 600 {file}" in capsys.readouterr().err
    assert read_token(None, {"MOCOCXR_TOKEN": TOKEN}) == TOKEN
    assert read_token(None, {}) is None
    for content in (b"", b"short", b"a token with blanks in it", b"\xff" * 20):
        file.write_bytes(content)
        with pytest.raises(InputError, match=re.escape(str(file))):
            read_token(file, {})
    with pytest.raises(InputError, match="Cannot read --token-file"):
        read_token(tmp_path / "none", {})


# --- the processes that decode


def _dies(data: bytes, **_: Any) -> str:
    if data == b"dies":
        os._exit(1)
    return str(os.getpid())


@pytest.mark.slow
def test_an_image_that_kills_its_process_costs_no_other_image(monkeypatch):
    monkeypatch.setattr(decoding, "_read_in_time", _dies)
    deaths: list[int] = []

    async def work() -> list[Any]:
        decoder = decoding.Decoder(Reading(), 32, 1, 9.0, lambda: deaths.append(1))
        await decoder.start()
        answers = await asyncio.gather(*(decoder(data) for data in (b"a", b"dies", b"b")))
        await decoder.stop()
        return answers

    first, died, after = asyncio.run(work())
    assert isinstance(died, ImageError)
    assert str(died) == decoding.CRASHED
    assert first != after, "a new process"
    assert deaths == [1]
