"""The files of a study become one page."""
