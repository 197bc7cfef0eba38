"""`scaling watch`: a live page of a workdir, read from its records and its journal."""
