# The two commands of the README are `make study` and `make test`.
# Each makes .venv if it is missing or out of date and then does its job.

STUDY ?= configs/quickstart.py
WORKDIR ?= runs/quickstart
TABLES ?= $(SCALING_TABLES)
BIN := .venv/bin
READY := .venv/ready

.PHONY: study test check test-slow test-published bench clean
.DELETE_ON_ERROR:

study: $(READY)
	$(BIN)/scaling run $(STUDY) --workdir $(WORKDIR)
	$(BIN)/scaling-analysis report $(WORKDIR)

test: $(READY) check
	SCALING_TABLES="$(TABLES)" $(BIN)/python -m pytest -m "not slow and not published" -n 2

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

test-published: $(READY)
	SCALING_TABLES="$(TABLES)" $(BIN)/python -m pytest -m published -rs

bench: $(READY)
	$(BIN)/python -m tests.benchmarks

$(READY): setup.cfg pyproject.toml constraints.txt install.sh
	bash install.sh .venv "test,corpora,bench"
	touch $@

clean:
	rm -rf .venv
