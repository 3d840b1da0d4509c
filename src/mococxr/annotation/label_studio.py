"""The list as tasks for Label Studio, for those who label there: images inside, and the labelling set-up beside them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

from mococxr import console, files
from mococxr.annotation.pictures import Pictures
from mococxr.annotation.worklist import Item

CHOICES = ("yes", "no", "uncertain")


def write_tasks(items: Sequence[Item], pictures: Pictures, targets: Sequence[str], out: Path) -> None:
    """Write the tasks, and `OUT.xml` with what the project's labelling interface has to say.

    `label STORE EXPORT.json` reads what is exported: `data.path` names the image, as the store's index does.
    """
    side = int(pictures.store.manifest["size"])
    tasks = []
    with console.progress("tasks", len(items)) as bar:
        for number, item in enumerate(items, 1):
            image = base64.b64encode(pictures.picture(item.row).png(None, side)).decode()
            how = {"chosen_by": item.chosen_by, "probability": item.probability}
            tasks.append(
                {"data": {"number": number, "path": item.path, **how, "image": f"data:image/png;base64,{image}"}}
            )
            bar.advance()
    files.write_json(out, tasks)
    setup = out.with_suffix(".xml")
    files.atomic_write(setup, _setup(targets))
    console.say(f"{len(tasks):,} tasks for Label Studio: {out}; its labelling interface: {setup}")
    console.say("Import the tasks, and read the project's JSON export with: mococxr label STORE EXPORT.json")


def _setup(targets: Sequence[str]) -> str:
    """The labelling interface: the image, a choice for each finding, a note."""
    options = "".join(f'<Choice value="{word}"/>' for word in CHOICES)
    lines = [
        "<View>",
        '  <Image name="image" value="$image" zoom="true" brightnessControl="true" contrastControl="true"/>',
    ]
    for target in targets:
        lines.append(f"  <Header value={quoteattr(target)}/>")
        lines.append(
            f'  <Choices name={quoteattr(target)} toName="image" choice="single" required="true">{options}</Choices>'
        )
    return "\n".join([*lines, '  <TextArea name="note" toName="image" placeholder="note"/>', "</View>", ""])
