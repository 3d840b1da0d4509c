"""Fuzzing of the table reader, on demand and without extra packages: `make fuzz`.

    python fuzz/tables.py [SECONDS] [--seed N]

Valid tables in every encoding, separator and format are changed at random, as text and as bytes, and read. Whatever comes
out other than InputError, a table that contradicts itself, a crash, or a minute for one table is a finding, which leaves the
file and its traceback in `fuzz/found/`; the run goes on after it in a process of its own. Tables that lead to an answer not
seen before are changed further.
"""

from __future__ import annotations

import argparse
import csv
import faulthandler
import gzip
import hashlib
import io
import re
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from random import Random

import openpyxl
import polars as pl

from mococxr import tables
from mococxr.errors import InputError
from mococxr.tables import findings, keys, words

FOUND = Path(__file__).resolve().parent / "found"
LAST, COUNT = FOUND / "last-table", FOUND / "count-tables"
LONGEST = 1 << 15
"""Characters of a table."""
SECONDS, MEMORY = 60, 6 << 30
ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1")
PIECES = (
    *',;\t|"\'\n\r\0.-+~=', '""', "\r\n", "\r\r\n", "\n\n", ",,,,", "sep=;\n", "sep=\n", "NA", "nan", "None", "null", "#N/A",
    "yes", "no", "positive", "-1", "1.0", "1,5", "1e999", "0012", "12.0", "1.23E+11", "\u2212", "\u00a0", "\u200b", "\ufeff",
    "u\u0308", "\u0130", "\U0001f4a9", "\x1a", "path", "patient", "TB", "TB|Edema", "['a', 'b']", "[", "x" * 400, ", " * 50,
)  # fmt: skip


def seeds() -> list[str]:
    """Small tables of every kind, as text."""
    rows = [("path", "patient", "sex", "age", "TB", "score", "findings")]
    rows += [
        (f"images/f{i}.png", f"P{i // 2:04d}", "MF"[i % 2], f"{40 + i}", ("1", "0", "", "NA", "-1")[i % 5], f"{i / 30:.3f}",
         ("TB|Edema", "No Finding", "TB")[i % 3])
        for i in range(12)
    ]  # fmt: skip
    texts = [end.join(separator.join(row) for row in rows) for separator in ",;\t|" for end in ("\n", "\r\n", "\r")]
    quoted = io.StringIO()
    csv.writer(quoted, quoting=csv.QUOTE_ALL).writerows([*rows, ("a\nb.png", 'say "no"', "", "", "", "", "x,y")])
    texts += [
        quoted.getvalue(),
        "sep=;\n" + texts[3],
        "\n\n" + texts[0].replace("\n", "\n\n"),
        "image.png\nother.png\n",
    ]
    return [*texts, texts[3].replace("0.", "0,"), texts[0].replace("P00", "M\u00fc")]


def change(text: str, others: list[str], random: Random) -> str:
    """Some changes of the text, one upon the other."""
    for _ in range(random.choice((0, 1, 1, 2, 3, 6))):
        at = random.randrange(len(text) + 1)
        to = min(len(text), at + random.choice((0, 0, 1, 3, 20, 300)))
        kind = random.randrange(6)
        if kind < 3:
            text = text[:at] + random.choice(PIECES) + text[to:]
        elif kind == 3:
            text = text[:to] + text[at:to] * random.choice((1, 2, 9)) + text[to:]
        elif kind == 4:
            other = random.choice(others)
            start = random.randrange(len(other) + 1)
            text = text[:at] + other[start : start + random.choice((5, 60, 2000))] + text[to:]
        else:
            lines = text.split("\n")
            random.shuffle(lines)
            text = "\n".join(lines)
    return text[:LONGEST]


def packed(text: str, random: Random) -> bytes:
    """The text as a file of some kind, at times with changed bytes."""
    kind = random.random()
    if kind < 0.06:
        return damaged(workbook(text, random), random, 0.3)
    if kind < 0.12:
        return damaged(parquet(text), random, 0.5)
    data = text.encode(random.choice(ENCODINGS), errors="replace")
    if kind < 0.2:
        return damaged(gzip.compress(data), random, 0.5)
    return damaged(data, random, 0.2)


def workbook(text: str, random: Random) -> bytes:
    """The text as the sheet of a workbook, whose XML is changed at times."""
    book = openpyxl.Workbook()
    for line in text.split("\n")[:30]:
        cells = [re.sub(r"[\x00-\x1f]", "", cell) for cell in re.split("[,;\t|]", line)[:20]]
        book.active.append([float(cell) if re.fullmatch(r"\d+(\.\d+)?", cell) else cell for cell in cells])  # type: ignore[union-attr]
    file, changed = io.BytesIO(), io.BytesIO()
    book.save(file)
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            content = old.read(member)
            new.writestr(member.filename, damaged(content, random, 0.15))
    return changed.getvalue()


def parquet(text: str) -> bytes:
    """The text as a column of words, and columns of other kinds beside it."""
    parts = text.split("\n")[:30]
    frame = pl.DataFrame({
        "path": parts, "length": [float(len(part)) for part in parts], "TB": [len(part) % 2 == 0 for part in parts],
        "words": [part.split(",") for part in parts], "kind": pl.Series(parts, dtype=pl.Categorical),
        "numbers": [[len(part)] for part in parts],
    })  # fmt: skip
    file = io.BytesIO()
    frame.write_parquet(file)
    return file.getvalue()


def damaged(data: bytes, random: Random, share: float) -> bytes:
    """Some bytes changed, taken away or doubled, in this share of the files."""
    if random.random() >= share or not data:
        return data
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5))):
        at, size = random.randrange(len(changed) + 1), random.choice((1, 1, 2, 8, 100))
        kind = random.randrange(4)
        if kind == 0:
            changed[at : at + 1] = bytes([random.randrange(256)])
        elif kind == 1:
            del changed[at : at + size]
        elif kind == 2:
            changed[at:at] = changed[at : at + size]
        else:
            changed[at : at + size] = random.randbytes(size)
    return bytes(changed)


def one(data: bytes, path: Path) -> str:
    """One table: its header, its cells, their meaning; returns what came of it, in words without numbers."""
    path.write_bytes(data)
    names = tables.header(path)
    lines: list[str] = []
    error: InputError | None = None
    try:
        lines = tables.read_lines(path)
        table = tables.read_table(path)
    except InputError as refusal:
        error = refusal
    if error:
        assert error.way_out
        assert path.name in error.problem
        return re.sub(r"'.*?'|\"[^\"]*\"|\d[\d,.]*", "N", str(error.problem.redacted))
    assert all(line == line.strip() != "" for line in lines)
    assert table.frame.height == len(table.lines) > 0
    assert (table.lines.diff().drop_nulls() > 0).all(), "lines do not rise"
    assert not set(names) - {*table.frame.columns, *table.wide}, "the header has other names"
    for column in table.frame:
        assert not (column.str.strip_chars() != column).any()
        assert not (column == "").any()
    understood(table.frame.to_series(len(data) % table.frame.width))
    if len(data) % 3 == 0:
        again(table, path)
    notes = " ".join(re.sub(r"\d+|'.*?'", "N", note.redacted) for note in table.notes)
    return f"read {min(table.frame.width, 9)} {table.frame.height.bit_length()} {notes}"


def understood(column: pl.Series) -> None:
    """What the words of a column mean, whatever they are."""
    assert not words.unknown(column).any()
    assert words.identifiers(column).null_count() == column.null_count()
    assert words.labels(column).is_between(-1, 1).all()
    for meaning in (words.numbers, words.sexes, words.views, words.ages, words.splits, words.typed):
        assert len(meaning(column)) == len(column)
    findings.holds(column, "TB")
    keys.as_known(column, column.reverse())


def again(table: tables.Table, path: Path) -> None:
    """What was read is the same when it is written as plain CSV and read again."""
    if any(name != name.replace("\n", " ") for name in table.frame.columns):
        return
    first = table.frame.filter(~pl.all_horizontal(pl.all().is_null()))  # a row of unknown cells becomes a blank one
    if first.height:
        first.write_csv(path, quote_style="always")
        assert tables.read_table(path).frame.equals(first), "another table when it is written and read again"


def work(until: float, seed: int) -> None:
    """Change and read until the time is over; the table being read lies in `found/`."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, limit))
    random, known, done = Random(seed), set[str](), 0
    pool = seeds()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        while time.time() < until:
            text = change(random.choice(pool), pool, random)
            data = packed(text, random)
            LAST.write_bytes(data)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            try:
                answer = one(data, path)
            finally:
                faulthandler.cancel_dump_traceback_later()
            done += 1
            if answer not in known and len(pool) < 2000:
                known.add(answer)
                pool.append(text)
            if done % 200 == 0:
                COUNT.write_text(f"{done} {len(known)}")
    COUNT.write_text(f"{done} {len(known)}")
    LAST.unlink()


def main() -> int:
    """Run `work` in processes until the time is over, and keep what each died of; returns 1 where there was a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    FOUND.mkdir(exist_ok=True)
    if asked.until:
        work(asked.until, asked.seed)
        return 0
    until, seed, total, answers, found = time.time() + asked.seconds, asked.seed, 0, 0, 0
    while time.time() < until - 1:
        COUNT.write_text("0 0")
        command = [sys.executable, __file__, "--until", str(until), "--seed", str(seed)]
        ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
        done, known = map(int, COUNT.read_text().split())
        total, answers, seed = total + done, max(answers, known), seed + 1
        if ended.returncode:
            found += 1
            data = LAST.read_bytes() if LAST.exists() else b""
            name = f"table-{hashlib.sha256(data).hexdigest()[:12]}"
            (FOUND / name).write_bytes(data)
            (FOUND / f"{name}.txt").write_text(f"exit status {ended.returncode}\n{ended.stderr}")
            print(f"{name}: exit status {ended.returncode}: {ended.stderr.strip()[-300:]}", flush=True)  # noqa: T201
    print(f"{total:,} tables, {answers:,} different answers, {found} findings")  # noqa: T201
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
