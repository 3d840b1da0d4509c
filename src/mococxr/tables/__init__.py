"""Tables that users give, read one way: `read.py` is the story; what words in a cell mean says `words.py`."""

from __future__ import annotations

from mococxr.tables.columns import (
    DescribeRow,
    choose_labels,
    common_labels,
    first_names,
    label_values,
    refuse_rows,
    split_names,
)
from mococxr.tables.read import Table, header, read_lines, read_table, tidy_name
from mococxr.tables.words import ages, days_since_first_study, identifiers, numbers, sexes, typed, views
