"""The paper's draws of labels, against its rule written as it is told and against the real table's sizes."""

from __future__ import annotations

import random

import pytest

from mococxr.splits import PAPER_SHARES, paper_draws

ROWS = 223_414
SIZES = {
    0.001: [222, 253, 213, 225, 230],
    0.01: [2259, 2244, 2195, 2232, 2188],
    0.1: [22454, 22244, 22249, 22336, 22182],
}


def told(rows: int) -> dict[tuple[float, int], list[int]]:
    """The rule as the released code walks it, one random number after another."""
    chance = random.Random(0)
    taken: dict[tuple[float, int], list[int]] = {}
    for row in range(rows):
        for fraction in (0.001, 0.01, 0.1, 0.5, 1):
            for draw in range(1 if fraction == 1 else 5):
                members = taken.setdefault((fraction, draw), [])
                if chance.random() < fraction:
                    members.append(row)
    return taken


def test_each_draw_is_row_for_row_that_of_the_walk() -> None:
    expected = told(3000)
    for fraction, draws in PAPER_SHARES:
        found = paper_draws(3000, fraction, draws)
        assert [rows.tolist() for rows in found] == [expected[fraction, draw] for draw in range(draws)]


def test_on_the_papers_table_the_draws_have_the_papers_sizes() -> None:
    assert {f: [len(rows) for rows in paper_draws(ROWS, f, 5)] for f in SIZES} == SIZES


@pytest.mark.parametrize("fraction", [0.01, 0.5])
def test_more_draws_than_the_paper_has_leave_its_own_as_they_are(fraction: float) -> None:
    five, seven = paper_draws(2000, fraction, 5), paper_draws(2000, fraction, 7, seed=3)
    assert [rows.tolist() for rows in seven[:5]] == [rows.tolist() for rows in five]
    assert len({tuple(rows) for rows in seven}) == 7
    assert [rows.tolist() for rows in paper_draws(2000, fraction, 2)] == [r.tolist() for r in five[:2]]


def test_another_share_has_draws_of_its_own_that_follow_the_seed() -> None:
    once, again, other = (paper_draws(20_000, 0.2, 3, seed) for seed in (0, 0, 1))
    assert [rows.tolist() for rows in once] == [rows.tolist() for rows in again]
    assert all(a.tolist() != b.tolist() for a, b in zip(once, other, strict=True))
    assert all(abs(len(rows) - 4000) < 5 * (20_000 * 0.2 * 0.8) ** 0.5 for rows in once)
    assert len(paper_draws(100, 1.0, 1)[0]) == 100
