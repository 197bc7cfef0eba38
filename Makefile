# The two commands of the README are `make study` and `make test`.
# Each makes .venv if it is missing or out of date and then does its job.

STUDY ?= configs/quickstart.py
WORKDIR ?= runs/quickstart
TABLES ?= $(SCALING_TABLES)
BIN := .venv/bin
READY := .venv/ready

# PyTorch, transformers and diffusers live apart, under the Python that they are checked with.
PYTHON311 ?= python3.11
REFERENCE := .venv-reference

.PHONY: study test check test-slow test-published test-reference soak bench vega clean
.DELETE_ON_ERROR:

study: $(READY)
	$(BIN)/scaling run $(STUDY) --workdir $(WORKDIR)
	$(BIN)/scaling-analysis report $(WORKDIR)

test: $(READY) check
	SCALING_TABLES="$(TABLES)" $(BIN)/python -m pytest -m "not slow and not published and not reference" -n 2

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

test-published: $(READY)
	SCALING_TABLES="$(TABLES)" $(BIN)/python -m pytest -m published -rs

test-reference: $(REFERENCE)/ready
	$(REFERENCE)/bin/python -m pytest -m reference tests/reference

# Hours: thousands of tables, dozens of kills, a run of half an hour.
soak: $(READY)
	$(BIN)/python -m tests.soak

bench: $(READY)
	$(BIN)/python -m tests.benchmarks

$(READY): setup.cfg pyproject.toml constraints.txt install.sh
	bash install.sh .venv "test,corpora,bench"
	touch $@

$(REFERENCE)/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON311) -m venv $(REFERENCE)
	$(REFERENCE)/bin/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -e ".[test,reference]"
	touch $@

clean:
	rm -rf .venv $(REFERENCE)

# The library of the report's explorer, at the version that its file names.
vega:
	cd analysis/report/vega && npm pack --silent vega@6.2.0 && tar -xzf vega-6.2.0.tgz \
	  --strip-components=1 package/LICENSE package/build/vega.min.js && \
	  mv build/vega.min.js vega-6.2.0.min.js && rmdir build && rm vega-6.2.0.tgz
