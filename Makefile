# One command for each habit. Everything lives in .venv; nothing is installed elsewhere.
PYTHON ?= python3
# Set to a package index that holds CPU-only builds of torch to avoid the CUDA packages.
TORCH_INDEX ?=
BIN := .venv/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -q -c constraints.txt
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.PHONY: setup setup-dev demo up test test-chaos fuzz audit check bench bench-accuracy docs docs-tables clean

setup: .venv/.runtime
setup-dev: .venv/.dev

.venv/.runtime: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Prunery needs Python 3.11 or newer")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the pinned packages into .venv (once)"
	@$(if $(TORCH_INDEX),PIP_INDEX_URL=$(TORCH_INDEX) )$(PIP) '$(TORCH)'
	@$(PIP) -e '.[hf]'
	@touch $@

.venv/.dev: .venv/.runtime
	@$(PIP) -e '.[dev,otel,docs]'
	@touch $@

.venv/.bench: .venv/.dev
	@$(PIP) -e '.[bench]'
	@touch $@

demo: setup          ## set up, start everything embedded, prune a real model over HTTP, show the report
	@$(BIN)/python -m prunery.demo

up: setup            ## the service on this machine; Ctrl-C ends it
	@$(BIN)/prunery up

test: setup-dev      ## the test suite
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-chaos: setup-dev   ## jobs whose processes, connections and disks fail; minutes
	@$(BIN)/python -m pytest -m chaos $(ARGS)

fuzz: setup-dev      ## 20,000 mutated files and 10,000 requests; figures to benchmarks/results/; a quarter of an hour
	@OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.fuzz $(ARGS)

audit: setup-dev     ## the pinned packages against the advisories of PyPI; says so where they cannot be reached
	@$(BIN)/python deploy/audit.py $(ARGS)

check: setup-dev     ## format, lint, types, import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup-dev     ## the quick figures, written to benchmarks/results/
	@$(BIN)/python -m benchmarks

bench-accuracy: .venv/.bench   ## accuracy at every density, beside other methods; hours, can be stopped; QUICK=1: two minutes
	@OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m benchmarks.accuracy $(if $(QUICK),--quick )$(ARGS)

docs: setup-dev      ## build the documentation, every link checked
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir site
	@echo "docs: site/index.html"

docs-tables: setup-dev   ## the generated tables of the documentation, as the code is now
	@$(BIN)/python docs/hooks/operators.py

clean:
	rm -rf .venv .cache site build dist *.egg-info
