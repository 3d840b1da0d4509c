"""Labelling on a page: who is let in, what leaves the server, and that each answer stands in the store once."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import urllib.error
import urllib.request
from collections import Counter
from http.cookiejar import CookieJar
from itertools import cycle
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient

import mococxr
from annotate_process import start
from mococxr import files, web
from mococxr.annotation import annotate
from mococxr.annotation.desk import Session
from mococxr.annotation.server import application
from mococxr.annotation.worklist import AHEAD, HELD, Item, Worklist, unlabelled
from mococxr.errors import InputError
from mococxr.settings import AnnotateSettings, make
from mococxr.store import Store
from small_images import image_path, small_prepared

IMAGES = 12
ADDRESS = "http://127.0.0.1:8123"
PAGE = {"origin": ADDRESS}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_prepared(tmp_path_factory.mktemp("annotate"), IMAGES)


@pytest.fixture
def store(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "store")
    return tmp_path / "store"


def listed(store: Path, **columns: Any) -> Path:
    """A list of all images, in the order of the store."""
    pl.DataFrame({"path": [image_path(i) for i in range(IMAGES)], **columns}).write_csv(store.parent / "list.csv")
    return store.parent / "list.csv"


def asked(store: Path, **given: Any) -> AnnotateSettings:
    return make(AnnotateSettings, {"store": store, "target": ["Effusion", "Nodule"], **given})


def served(store: Path, **given: Any) -> Any:
    return application(annotate._desk(asked(store, **given)), web.Sessions("secret", "session", Session))


def browser(app: Any, reader: str | None = "A") -> TestClient:
    """A browser that was let in, and chose a name."""
    client = TestClient(app, base_url=ADDRESS, headers=PAGE)
    assert client.get("/enter?token=secret").status_code == 200
    if reader is not None:
        assert client.post("/reader", json={"reader": reader}).status_code == 200
    return client


def say(client: TestClient, number: int, answers: dict[str, int | None], **others: Any) -> Any:
    body = {"number": number, "answers": answers, "was": {}, "note": "", **others}
    return client.post("/answer", json=body)


def events(store: Path) -> list[tuple[Any, ...]]:
    return Store.open(store).history.select("path", "target", "value", "reader").rows()


# --- who is let in


@pytest.mark.parametrize(
    "path", ["/", "/work", "/page.js", "/image/1/0", "/item/1", "/enter", "/enter?token=secreT", "/no"]
)
def test_nothing_is_served_without_the_token(store: Path, path: str) -> None:
    answer = TestClient(served(store), base_url=ADDRESS).get(path)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_the_token_is_exchanged_for_a_strict_cookie_and_every_answer_is_shut_in(store: Path) -> None:
    client = browser(served(store))
    cookie = TestClient(client.app, base_url=ADDRESS).get("/enter?token=secret").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "secret" not in cookie
    for path in ("/", "/page.js", "/page.css", "/work", "/image/1/0", "/nothing"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none';")
        assert headers["cache-control"] == "no-store"
    assert "//" not in re.sub(r"// .*", "", client.get("/page.js").text + client.get("/").text), (
        "nothing from elsewhere"
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "evil.example:8123", "origin": "http://evil.example:8123"}, 400),
        ({"origin": "http://127.0.0.1:9000"}, 403),
        ({"origin": ""}, 403),
        ({"content-type": "text/plain"}, 403),
        ({"cookie": "session=guessed"}, 401),
        ({"host": "localhost:9", "origin": "http://localhost:9"}, 200),  # through a tunnel
    ],
)
def test_only_the_page_itself_may_write(store: Path, headers: dict[str, str], status: int) -> None:
    client = browser(served(store))
    body = json.dumps({"number": 1, "answers": {"Effusion": 1}, "was": {}, "note": ""}).encode()
    cookie = {"cookie": f"session={client.cookies['session']}"}
    sent = {"content-type": "application/json", **PAGE, **cookie, **headers}
    fresh = TestClient(client.app, base_url=ADDRESS)
    assert fresh.post("/answer", content=body, headers=sent).status_code == status
    assert len(events(store)) == (status == 200)
    assert fresh.post("/answer", content=body + b" " * 70_000, headers=sent).status_code in (400, 401, 403)


@pytest.mark.parametrize(
    "path",
    ["/../server.py", "/%2e%2e/server.py", "/..%2fserver.py", "/server.py", "/image/0/0", "/image/13/0", "/image/1/2",
     "/image/-1/0", "/image/1/0?low=0", "/image/1/0?low=nan&high=1", "/image/1/0?low=1&high=0", "/image/1/0?side=x"],
)  # fmt: skip
def test_what_the_page_does_not_ask_for_is_refused(store: Path, path: str) -> None:
    assert browser(served(store)).get(path).status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [{"number": 0}, {"number": 99}, {"number": "1"}, {"number": [1]}, {"answers": {"Rare": 1}}, {"answers": {"Effusion": 2}},
     {"answers": {"Effusion": "1"}}, {"answers": {"Effusion": True}}, {"answers": {"Effusion": 0.5}}, {"answers": 1},
     {"answers": None}, {"was": None}, {"note": "x" * 2001}, {"note": 3}],
)  # fmt: skip
def test_an_answer_that_is_none_writes_nothing(store: Path, wrong: dict[str, Any]) -> None:
    client = browser(served(store))
    body = {"number": 1, "answers": {"Effusion": 1}, "was": {}, "note": "", **wrong}
    assert client.post("/answer", json=body).status_code == 400
    assert client.post("/answer", content=b"{", headers={"content-type": "application/json"}).status_code == 400
    assert not (store / "labels.parquet").exists()


@pytest.mark.parametrize("name", ["", " ", "resolved", "x" * 61, "a\x00b", None, 3])
def test_a_session_has_a_name_before_it_answers(store: Path, name: Any) -> None:
    client = browser(served(store, reader="A"), None)
    assert client.get("/work").json() == {"reader": None, "proposed": "A", "readers": []}
    assert client.post("/reader", json={"reader": name}).status_code == 400
    assert say(client, 1, {"Effusion": 1}).status_code == 400
    assert events(store) == []


def test_no_path_and_no_patient_leaves_the_server(store: Path) -> None:
    client = browser(served(store))
    shown = [client.get(path) for path in ("/", "/work", "/item/1", "/item/99", "/image/1/0", "/image/99/0")]
    shown += [say(client, 1, {"Effusion": 1}), say(client, 1, {"Effusion": 5})]
    text = " ".join(
        f"{answer.content!r} {answer.headers}" for answer in shown if "png" not in answer.headers["content-type"]
    )
    index = Store.open(store).index
    secrets = [*index["path"], *(f'"{p}"' for p in index["patient"]), *(f'"{s}"' for s in index["study"]), str(store)]
    assert not [secret for secret in secrets if secret in text]
    assert b"tEXt" not in shown[4].content


# --- answers


def test_an_answer_is_an_event_with_all_that_is_known_of_it(store: Path) -> None:
    chosen = listed(store, chosen_by=["coverage"] * IMAGES, probability=[0.25] * IMAGES, rank=range(IMAGES))
    client = browser(served(store, next=chosen))
    work = say(client, 3, {"Effusion": -1, "Nodule": 0}, note=" blurred ").json()
    assert (work["done"], work["total"]) == (1, IMAGES)
    rows = (
        Store.open(store).history.select("target", "value", "reader", "chosen_by", "probability", "note", "path").rows()
    )
    assert rows == [
        (t, v, "A", "coverage", 0.25, " blurred ", image_path(2)) for t, v in (("Effusion", -1), ("Nodule", 0))
    ]
    assert Store.open(store).index["Nodule"].to_list()[:3] == [None, None, 0]


def test_an_answer_sent_again_changed_or_taken_back_stands_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(60))
    monkeypatch.setattr("time.gmtime", lambda: (2026, 3, 1, 12, 0, next(seconds), 6, 60, 0))
    client = browser(served(store, next=listed(store)))
    for _ in range(3):  # an answer whose receipt was lost is sent again
        assert say(client, 1, {"Nodule": 1}).status_code == 200
    assert say(client, 1, {"Nodule": None}, was={"Nodule": 0}).status_code == 409
    assert events(store) == [(image_path(0), "Nodule", 1, "A")]
    assert say(client, 1, {"Nodule": 0}, was={"Nodule": 1}).status_code == 200
    assert say(client, 1, {"Nodule": None}, was={"Nodule": 0}).status_code == 200
    assert say(client, 1, {"Nodule": None}, was={"Nodule": 0}).status_code == 200
    assert [value for _, _, value, _ in events(store)] == [1, 0, None]
    assert Store.open(store).index["Nodule"][0] is None


def test_a_second_tab_loses_nothing_and_doubles_nothing(store: Path) -> None:
    app = served(store, next=listed(store))
    first = browser(app)
    second = TestClient(app, base_url=ADDRESS, headers=PAGE, cookies=dict(first.cookies))
    assert [tab.get("/work").json()["items"][0]["number"] for tab in (first, second)] == [1, 1]
    say(first, 1, {"Effusion": 1})
    assert say(second, 1, {"Effusion": 1}).status_code == 200  # the same is said
    assert say(second, 1, {"Effusion": 0}).status_code == 409  # another, unseen, is not written over
    assert events(store) == [(image_path(0), "Effusion", 1, "A")]
    assert second.get("/item/1").json()["answers"] == {"Effusion": 1}
    assert say(second, 1, {"Effusion": 0}, was={"Effusion": 1}).status_code == 200


def test_readers_share_the_list_and_see_together_what_two_are_to_see(store: Path) -> None:
    wanted = [1 + (i % 3 == 0) for i in range(IMAGES)]
    app = served(store, next=listed(store, readers=wanted))
    clients = {name: browser(app, name) for name in "AB"}
    seen: Counter[int] = Counter()
    order: dict[str, list[int]] = {"A": [], "B": []}
    for turn in cycle("AAB"):
        works = {name: client.get("/work").json() for name, client in clients.items()}
        if not any(work["items"] for work in works.values()):
            break
        if works[turn]["items"]:
            number = works[turn]["items"][0]["number"]
            say(clients[turn], number, {"Effusion": 1, "Nodule": 0})
            seen[number] += 1
            order[turn].append(number)
    assert [seen[i + 1] for i in range(IMAGES)] == wanted
    assert all(numbers == sorted(numbers) and len(numbers) >= 4 for numbers in order.values())
    assert clients["B"].get("/work").json()["done"] == len(order["B"])


def test_what_was_promised_to_a_reader_who_left_goes_to_another(store: Path) -> None:
    now = [0.0]
    items = [Item(row, image_path(row)) for row in range(6)]
    worklist = Worklist(store, items, ["Effusion"], clock=lambda: now[0])
    assert worklist.upcoming("A")[:AHEAD] == [1, 2, 3, 4]
    assert worklist.upcoming("B") == [5, 6]
    now[0] = HELD + 1
    assert worklist.upcoming("B") == [1, 2, 3, 4, 5, 6]


def test_a_skipped_image_comes_again_at_the_end_and_time_left_leaves_out_pauses(store: Path) -> None:
    now = [0.0]
    worklist = Worklist(store, [Item(row, image_path(row)) for row in range(6)], ["Effusion"], clock=lambda: now[0])
    worklist.skip("A", 1)
    assert worklist.upcoming("A") == [2, 3, 4, 5, 6, 1]
    for number, seconds in ((2, 5), (3, 10), (4, 2000), (5, 20), (6, 30)):
        now[0] += seconds
        assert worklist.seconds_an_image("A") is None
        worklist.answer("A", number, {"Effusion": 1}, {}, None)
    assert worklist.upcoming("A") == [1]
    assert worklist.seconds_an_image("A") == 20  # of 10, 20 and 30


def test_a_list_that_was_begun_goes_on_where_it_was(store: Path) -> None:
    client = browser(served(store, next=listed(store)))
    for number in (1, 2, 4):
        say(client, number, {"Effusion": 1, "Nodule": 0})
    say(client, 3, {"Effusion": 0})
    work = browser(served(store, next=listed(store))).get("/work").json()
    assert [item["number"] for item in work["items"]] == [3, 5, 6, 7]
    assert work["items"][0]["answers"] == {"Effusion": 0}
    assert work["trail"] == [1, 2, 4]


def test_the_list_of_next_is_asked_for_in_its_order_with_its_overlap(store: Path, tmp_path: Path) -> None:
    file = mococxr.next_images(store, target=["Nodule"], count=4, overlap=0.5, out=tmp_path / "next.csv")
    table = pl.read_csv(file)
    app = served(store, next=file, target=["Nodule"])
    for reader, numbers in (("A", range(1, 5)), ("B", [n for n, two in enumerate(table["readers"], 1) if two == 2])):
        client = browser(app, reader)
        assert [item["number"] for item in client.get("/work").json()["items"]] == list(numbers)
        for number in numbers:
            say(client, number, {"Nodule": 0})
    rows = Store.open(store).history.filter(reader="A").select("path", "chosen_by", "probability").rows()
    assert rows == table.select("path", "chosen_by", "probability").rows()


def test_without_a_list_all_that_is_unlabelled_comes_in_one_random_order(store: Path) -> None:
    mococxr.label(store, pl.DataFrame({"path": [image_path(0)], "Nodule": ["1"]}), label=["Nodule"], reader="B")
    order = unlabelled(Store.open(store), ["Nodule"], 0)["path"].to_list()
    assert sorted(order) == [image_path(i) for i in range(1, IMAGES)] != order
    assert order != unlabelled(Store.open(store), ["Nodule"], 1)["path"].to_list()
    say(browser(served(store, target=["Nodule"])), 1, {"Nodule": 0})
    assert Store.open(store).history["chosen_by"].to_list() == [None, "random"]
    assert unlabelled(Store.open(store), ["Nodule"], 0)["path"].to_list() == order, "numbers stay"


# --- a server that is killed


def requests_to(address: str) -> Any:
    """What sends requests as a browser does, let in by the address that the server shows."""
    base = address.split("/enter")[0]
    opener = urllib.request.build_opener(
        urllib.request.HTTPCookieProcessor(CookieJar()), urllib.request.ProxyHandler({})
    )
    opener.open(address, timeout=20).read()

    def send(path: str, body: Any = None) -> Any:
        headers = {"Origin": base, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        return json.loads(opener.open(urllib.request.Request(base + path, data, headers), timeout=20).read())

    return send


def test_a_killed_server_has_kept_every_answer_that_it_took(store: Path) -> None:
    chosen = str(listed(store))
    process, address = start(store, "--next", chosen)
    send = requests_to(address)
    send("/reader", {"reader": "A"})
    for number in range(1, 6):
        send("/answer", {"number": number, "answers": {"Effusion": number % 2}, "was": {}, "note": ""})
    with pytest.raises(InputError, match="served already"):
        mococxr.annotate(store, target=["Effusion"], next=chosen, browser=False)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert events(store) == [(image_path(n - 1), "Effusion", n % 2, "A") for n in range(1, 6)]
    process, address = start(store, "--next", chosen)
    send = requests_to(address)
    assert send("/reader", {"reader": "A"})["items"][0]["number"] == 6
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address[:-3] + "xyz", timeout=20)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert not list(store.glob(".labels.parquet*"))


def test_the_patient_s_other_images_come_with_their_study_first(store: Path) -> None:
    client = browser(served(store, next=listed(store)))
    items = client.get("/work").json()["items"]
    assert [item["others"] for item in items[:2]] == [["AP, another study"], ["PA, another study"]]
    opened = Store.open(store)
    assert client.get("/image/1/1?side=9999").content == client.get("/image/2/0").content
    assert client.get("/image/1/0").headers["x-bits"] == "8"
    assert opened.index["patient"][0] == opened.index["patient"][1]


# --- what is refused before anything is served


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"next": {"path": ["images/other.png", image_path(0)]}}, "no image 'images/other.png'"),
        ({"next": {"path": [image_path(0), image_path(0)]}}, "stands twice"),
        ({"next": {"path": [image_path(0)], "readers": ["two"]}}, "'two' is not a number of readers"),
        ({"next": {"path": [image_path(0)], "readers": ["0"]}}, "'0' is not a number of readers"),
        ({"next": {"path": [image_path(0)], "probability": ["2"]}}, "not a probability"),
        ({"next": {"image_name": [image_path(0)]}}, "no path column"),
        ({"target": ["effusion"]}, "--target 'effusion': the store has the finding 'Effusion'"),
        ({"target": ["sex"]}, "--target 'sex' cannot be a finding"),
        ({"target": ["Effusion"]}, "No image lacks these labels"),
        ({"reader": "x" * 61}, "no name for a reader"),
        ({"source": "."}, "No image of the list lies in"),
        ({"key": "other.key"}, "There is no table of pseudonyms at other.key.lookup.csv"),
    ],
)
def test_bad_settings_and_lists_are_refused_by_name(
    store: Path, given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    if "next" in given:
        pl.DataFrame(given["next"]).write_csv(tmp_path / "bad.csv")
        given = {"next": tmp_path / "bad.csv"}
    with pytest.raises(InputError, match=re.escape(said)):
        annotate._desk(asked(store, **given))


def test_a_port_in_use_and_a_second_server_are_refused(store: Path) -> None:
    with web.listening(web.LOCAL, 0) as first, pytest.raises(InputError, match="cannot be used"):
        mococxr.annotate(store, target=["Nodule"], port=first.getsockname()[1], browser=False)
    with files.lock(store / annotate.LOCK), pytest.raises(InputError, match="served already"):
        mococxr.annotate(store, target=["Nodule"], browser=False)
