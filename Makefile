# Two commands do everything: `make demo` and `make test`. The rest is for those who build.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO ?= demo
EPISODES ?= 200000
HOSPITALS ?= 24
WORKERS ?= -n 2 --dist loadgroup

.PHONY: demo test coverage check mutants bench format lint types lock setup clean help

help: ## what can be made
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 12

$(INSTALLED): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed")'
	@echo "setting up $(VENV) with the locked dependencies (a minute or two, once)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip check --disable-pip-version-check >/dev/null
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m compileall -q $(VENV)/lib >/dev/null 2>&1 || true
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(INSTALLED)

setup: $(INSTALLED) ## the virtual environment, from the lock file

demo: $(INSTALLED) ## a workspace, synthetic extracts, the nightly run, the report
	@$(BIN)/python -m flows.demo $(DEMO) --episodes $(EPISODES) --hospitals $(HOSPITALS)

check: $(INSTALLED) lint types ## lint, types and the pure tests, under a minute
	@$(BIN)/python -m pytest -q $(WORKERS) -m "not thorough" tests/unit tests/sql

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(INSTALLED)
	@$(BIN)/mypy

format: $(INSTALLED) ## rewrite the layout of the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

test: $(INSTALLED) lint types ## every test
	@$(BIN)/python -m pytest -q $(WORKERS) --durations=15 tests

coverage: $(INSTALLED) ## every test, and which lines and branches of the code none of them reaches
	@$(BIN)/python -m pytest -q $(WORKERS) --cov --cov-report=term:skip-covered tests

mutants: $(INSTALLED) ## switch off each guard against an attack; its test has to notice
	@$(BIN)/python -m tests.security.mutants

bench: $(INSTALLED) ## speed, memory and growth, side by side with bare DuckDB and bare Polars
	@$(BIN)/python -m tests.benchmarks

lock: $(INSTALLED) ## resolve the dependencies again and write the lock file
	@$(BIN)/python -m uv pip compile pyproject.toml --extra dev --generate-hashes --no-emit-index-url \
		--universal --python-version 3.11 --no-annotate --no-header --upgrade -q -o requirements.lock

clean: ## remove the virtual environment and the demo
	@rm -rf $(VENV) $(DEMO)
