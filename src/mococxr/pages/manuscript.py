"""Figures and tables for a manuscript: where they lie beside a page, how they are named, and tables in LaTeX.

This is the one place that says so; `docs/contract.md` repeats it for users.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from mococxr.files import atomic_write
from mococxr.pages.figures import Figure
from mococxr.pages.render import Table

FIGURES, TABLES = "figures", "tables"
"""Folders beside a page: `figures/NAME.svg`, `.pdf`, `.png`; `tables/NAME.tex`, `.csv`."""
FORMS = ("svg", "pdf", "png")
LONG = 40
"""Rows of a table that fit on a page; a longer one goes over several."""
LETTERS = 36
"""Letters of a column that is not broken into lines."""
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "|": r"$|$", "−": r"$-$",
    "–": "--", "—": "---", "×": r"$\times$", "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "·": r"$\cdot$",
    "…": r"\dots{}", 
    "[": "{[}", "*": "{*}", "→": r"$\rightarrow$", "κ": r"$\kappa$", "µ": r"$\mu$",
    "“": "``", "”": "''", "’": "'", "\u00a0": "~", "⚑": r"$\ast$", "\n": " ",
    **{power: f"$^{{{digit}}}$" for power, digit in zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789", strict=True)},
}  # fmt: skip
"""What is no plain text in LaTeX -> how it is written there, for pdfLaTeX as for LuaLaTeX."""


def write_figures(out: Path, figures: Iterable[Figure]) -> None:
    """Every figure in every form, in `out/figures`."""
    for figure in figures:
        for form in FORMS:
            atomic_write(out / FIGURES / f"{figure.name}.{form}", getattr(figure, form))


def write_tables(out: Path, tables: Mapping[str, tuple[str, Table]]) -> None:
    """Every table as LaTeX and as CSV with the same cells, in `out/tables`.

    Args:
        out: the folder of the page.
        tables: file name without suffix -> caption and table.
    """
    for name, (caption, table) in tables.items():
        atomic_write(out / TABLES / f"{name}.tex", to_latex(table, caption, name))
        atomic_write(out / TABLES / f"{name}.csv", to_csv(table))


def to_csv(table: Table) -> str:
    """The cells as they stand on the page, one header line."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([table.head, *table.rows])
    return text.getvalue()


def to_latex(table: Table, caption: str, name: str) -> str:
    r"""The table for `\\input`, with rules of booktabs, caption, note and the label `tab:NAME`.

    A table of more than 40 rows is a `longtable`.

    >>> print(to_latex(Table(["Arm", "n"], [["a_b", "10 %"]]), "Arms", "arms"))  # doctest: +ELLIPSIS
    % needs \usepackage{booktabs}
    \begin{table}
    ...
    \bottomrule
    \end{tabular}
    \end{table}
    <BLANKLINE>
    """
    columns = "".join(_column(table, i) for i in range(len(table.head)))
    head = [rf"\caption{{{escape_latex(caption)}}}", rf"\label{{tab:{name}}}"]
    body = [_line(row) for row in table.rows]
    heading = [r"\toprule", _line(table.head), r"\midrule"]
    note = [rf"\par\smallskip {escape_latex(table.note)}"] if table.note else []
    if len(table.rows) > LONG:
        opening = ["% needs \\usepackage{booktabs,longtable}", r"{\footnotesize", rf"\begin{{longtable}}{{{columns}}}"]
        caption_lines = [*head, r"\\", *heading, r"\endfirsthead", *heading, r"\endhead", r"\bottomrule", r"\endfoot"]
        lines = [*opening, *caption_lines, *body, r"\end{longtable}", *note, "}"]
    else:
        opening = ["% needs \\usepackage{booktabs}", r"\begin{table}", r"\centering", r"\footnotesize", *head]
        tabular = [rf"\begin{{tabular}}{{{columns}}}", *heading, *body, r"\bottomrule", r"\end{tabular}"]
        lines = [*opening, *tabular, *note, r"\end{table}"]
    return "\n".join(lines) + "\n"


def _column(table: Table, i: int) -> str:
    """How a column is set: text to the left, numbers to the right, long text in lines."""
    if max((len(row[i]) for row in table.rows), default=0) > LETTERS:
        return r"p{0.28\linewidth}"
    return "l" if i < table.text else "r"


def _line(cells: Iterable[str]) -> str:
    return " & ".join(map(escape_latex, cells)) + r" \\"


def escape_latex(text: str) -> str:
    r"""Any text as plain text of LaTeX.

    >>> escape_latex("5 % of arm_a, −0.01")
    '5 \\% of arm\\_a, $-$0.01'
    """
    return "".join(LATEX.get(letter, letter) for letter in text)
