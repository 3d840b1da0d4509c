"""The tables of a study: what each column holds, how they are written, how a folder is read back."""

from mococxr.results.folder import UNDEFINED, StudyResults, read_results, read_table, write_tables
from mococxr.results.tables import CELL_KEYS, PAIR_KEYS, TABLES, Row

__all__ = [
    "CELL_KEYS", "PAIR_KEYS", "TABLES", "UNDEFINED", "Row", "StudyResults", "read_results", "read_table", "write_tables",
]  # fmt: skip
