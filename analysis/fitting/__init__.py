"""Fitting any law: its starts, the solver, and the best of all ends."""
