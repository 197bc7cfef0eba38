"""The experiment behind a table: its cells and factors, and what it can identify."""
