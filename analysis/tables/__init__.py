"""A table comes in: files, columns, units, and what was left out and why."""
