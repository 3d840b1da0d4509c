"""Label Studio: the list goes out as tasks, and what is exported there comes in as labels."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import polars as pl
import pytest

import mococxr
from mococxr.errors import InputError
from mococxr.images import resize_shorter
from mococxr.store import Store
from small_images import small_prepared

TARGETS = ["Nodule", 'Mass "left" & more']
ANSWERS = [(1, 0), (-1, 1)]
"""Of each user, to these."""
WORDS = {1: "yes", 0: "no", -1: "uncertain"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_prepared(tmp_path_factory.mktemp("label_studio"), 6)


@pytest.fixture
def store(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def tasks(store: Path, tmp_path: Path) -> list[dict[str, Any]]:
    paths = Store.open(store).index["path"].to_list()[::-1]
    pl.DataFrame({"path": paths, "chosen_by": "coverage", "probability": 0.25}).write_csv(tmp_path / "list.csv")
    mococxr.annotate(store, target=TARGETS, next=tmp_path / "list.csv", tasks=tmp_path / "tasks.json")
    return list(json.loads((tmp_path / "tasks.json").read_text()))


def annotated(task: dict[str, Any], number: int) -> dict[str, Any]:
    """A task as Label Studio exports it, answered by two users; the second began and cancelled one more."""

    def result(values: tuple[int, ...]) -> list[dict[str, Any]]:
        choices = [
            {
                "from_name": name,
                "to_name": "image",
                "type": "choices",
                "value": {"choices": [WORDS[value]]},
                "id": name,
                "origin": "manual",
            }
            for name, value in zip(TARGETS, values, strict=True)
        ]
        return [
            *choices,
            {"from_name": "note", "to_name": "image", "type": "textarea", "value": {"text": ["dim", "old"]}},
        ]

    made = [
        {"id": 10 * number + i, "completed_by": user, "result": result(values), "was_cancelled": False, "lead_time": 4.2,
         "created_at": "2026-03-09T22:16:08.728353Z", "updated_at": "2026-03-09T23:16:08.728378Z"}
        for i, (user, values) in enumerate(zip((1, {"id": 2, "email": "b@example.org"}), ANSWERS, strict=True))
    ]  # fmt: skip
    cancelled = {**made[0], "was_cancelled": True, "completed_by": 3}
    return {"id": number, "project": 1, "annotations": [*made, cancelled], "predictions": [], **task}


def test_tasks_hold_the_images_in_the_order_of_the_list_and_the_set_up_asks_for_each_finding(
    prepared: Path, store: Path, tasks: list[dict[str, Any]], tmp_path: Path
) -> None:
    opened = Store.open(store)
    for task, row in zip(tasks, reversed(range(6)), strict=True):
        kind, data = task["data"]["image"].split(",")
        assert kind == "data:image/png;base64"
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
        full = mococxr.read_image(prepared.parent / "images" / opened.index["path"][row])
        assert np.array_equal(pixels, full if min(full.shape) < 32 else resize_shorter(full, 32))
        assert task["data"]["path"] == opened.index["path"][row]
    interface = ElementTree.parse(tmp_path / "tasks.xml")
    assert [choices.get("name") for choices in interface.iter("Choices")] == TARGETS
    assert [choice.get("value") for choice in interface.find("Choices") or ()] == ["yes", "no", "uncertain"]


def test_an_export_comes_in_with_reader_date_note_and_how_images_were_chosen(
    store: Path, tasks: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "export.json").write_text(json.dumps([annotated(task, n) for n, task in enumerate(tasks)]))
    after = mococxr.label(store, tmp_path / "export.json", label=TARGETS)
    events = after.history
    assert len(events) == 6 * 2 * 2
    assert set(events["reader"]) == {"1", "b@example.org"}
    assert set(events.select("date", "note", "chosen_by", "probability").iter_rows()) == {
        ("2026-03-09T23:16:08Z", "dim old", "coverage", 0.25)
    }
    values = set(events.select("target", "reader", "value").iter_rows())
    assert values == {
        (t, r, v)
        for r, by in zip(("1", "b@example.org"), ANSWERS, strict=True)
        for t, v in zip(TARGETS, by, strict=True)
    }
    assert mococxr.label(store, tmp_path / "export.json", label=TARGETS).label_events == len(events)


@pytest.mark.parametrize("form", ["json", "csv"])
def test_the_short_export_and_its_csv_come_in_too(
    store: Path, tasks: list[dict[str, Any]], tmp_path: Path, form: str
) -> None:
    rows = [
        {
            **task["data"],
            "id": n,
            "Nodule": ("yes", "no")[n % 2],
            "annotator": 7,
            "updated_at": "2026-03-09T23:16:08.728378Z",
        }
        for n, task in enumerate(tasks)
    ]
    file = tmp_path / f"short.{form}"
    file.write_text(json.dumps(rows) if form == "json" else pl.DataFrame(rows).write_csv())
    events = mococxr.label(store, file, label=["Nodule"]).history
    assert events["value"].to_list() == [1, 0] * 3
    assert set(events.select("reader", "date").iter_rows()) == {("7", "2026-03-09T23:16:08Z")}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tasks: tasks[1]["data"].pop("path"), "task 2"),
        (lambda tasks: tasks[1]["data"].update(path="other.png"), "task 2"),
        (
            lambda tasks: tasks[2]["annotations"][0]["result"][0]["value"].update(choices=["yes", "no"]),
            "task 3: 'Nodule' has 2",
        ),
        (
            lambda tasks: tasks[2]["annotations"][0]["result"][0]["value"].update(choices=["maybe"]),
            "'maybe' is not a label",
        ),
        (lambda tasks: tasks[2]["annotations"][0]["result"][0].update(value=3), "no export of Label Studio"),
        (lambda tasks: [task["annotations"].clear() for task in tasks], "has no annotation"),
        (lambda tasks: tasks.append([1]), "no export of Label Studio"),
    ],
)
def test_an_export_that_is_wrong_is_refused_by_task(
    store: Path, tasks: list[dict[str, Any]], tmp_path: Path, change: Any, said: str
) -> None:
    export = [annotated(task, n) for n, task in enumerate(tasks)]
    change(export)
    (tmp_path / "export.json").write_text(json.dumps(export))
    with pytest.raises(InputError) as error:
        mococxr.label(store, tmp_path / "export.json", label=TARGETS)
    assert said in error.value.problem
    assert Store.open(store).label_events == 0
