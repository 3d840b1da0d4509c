"""Labels of a store that grow: entered and taken back by tables, each an event of a history that is kept."""
