# Everything starts here: `make` lists the targets. Python 3.11 and make are all it needs.
.DEFAULT_GOAL := help
.PHONY: help setup run test test-code lint lint-python lint-sql unit format docs clean bench torture torture-streams torture-changes torture-watch

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV := $(shell command -v uv || echo .uv/bin/uv)
BIN := .venv/bin
# What follows `wellspring run` in `make run`, and pytest in `make test`.
ARGS ?=
# Each worker goes on with its own half, so that what a module's tests share is made once.
PYTEST_ARGS ?= -n 2 --dist worksteal
# example: begin
# Where Wellspring itself is worked on, its code is tested with every change.
TESTS ?= tests/python
# example: end
# What a project that uses it is asked: the rules of the house, its unit tests, tests of its own.
TESTS ?= tests/python/own

# The environment is made here and of what is installed, whatever surrounds us; what is compiled is kept.
export UV_PROJECT_ENVIRONMENT := .venv
export UV_PYTHON_DOWNLOADS := never
unexport VIRTUAL_ENV
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
		while IFS="$$(printf '\t')" read -r name text; do printf '  make %-15s %s\n' "$$name" "$$text"; done

setup: .venv/.synced ## make the environment, as locked in uv.lock

run: .venv/.synced ## extract, load, build, audit, publish and document (ARGS="--select ...")
	@$(BIN)/wellspring run $(ARGS)

test: lint ## everything CI runs: lint, checks of the project, unit tests of the models
	@$(BIN)/pytest $(PYTEST_ARGS) $(TESTS)

test-code: .venv/.synced ## the tests of Wellspring's own code, for whoever changes it (some 20 minutes)
	@$(BIN)/pytest $(PYTEST_ARGS) tests/python

# Side by side: what reads the project for sqlfluff and what checks types keep one core each.
lint: .venv/.synced ## check style and types, of Python and SQL
	@$(MAKE) --no-print-directory --jobs 2 --output-sync lint-python lint-sql

lint-python: .venv/.synced
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

lint-sql: .venv/.synced
	@$(in_scratch) $(sqlfluff) lint $(linted)

# On an empty warehouse: its raw tables come of the declarations, the models of those.
unit: .venv/.synced ## run the unit tests of the models
	@$(in_scratch) $(BIN)/wellspring load build --quiet >/dev/null && \
		$(BIN)/dbt --quiet test --select test_type:unit

format: .venv/.synced ## put Python and SQL into house style
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .
	@$(in_scratch) $(sqlfluff) fix $(linted)

docs: .venv/.synced ## write the documentation and serve it on this machine
	@$(BIN)/wellspring docs

clean: .venv/.synced ## remove working folders and logs; landing and published versions stay
	@$(BIN)/wellspring clean

# example: begin
bench: .venv/.synced ## measure against DuckDB alone and other tools (ARGS="--quick --only load")
	@PYTHONPATH=tests/bench $(BIN)/python -m suite $(ARGS)
# example: end

torture: .venv/.synced ## kill every command at random and at every failpoint (ARGS="--seed 8")
	@$(BIN)/python tests/torture/torture.py $(ARGS)

torture-streams: .venv/.synced ## kill landers, loader and broker of a stream (ARGS="--system mqtt")
	@$(BIN)/python tests/torture/streams.py $(ARGS)

torture-changes: .venv/.synced ## kill lander, loader and database of a change log (ARGS="--failpoints")
	@$(BIN)/python tests/torture/change_capture.py $(ARGS)

torture-watch: .venv/.synced ## kill a watch, its lander and the broker under load (ARGS="--kills 100")
	@$(BIN)/python tests/torture/watching.py $(ARGS)

sqlfluff = $(BIN)/python tests/kit/lint_sql.py
linted = --processes 2 --disable-progress-bar models tests/dbt/singular

# A data and target folder of its own, gone afterwards: neither data nor dbt's partial parse are met.
in_scratch = scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	export WELLSPRING_DATA="$$scratch/data" DBT_TARGET_PATH="$$scratch/target" && \
	mkdir -p "$$scratch/data/warehouse" &&

.venv/.synced: uv.lock pyproject.toml
	@$(UV) sync --locked
	@$(BIN)/python -m compileall -q $(wildcard ingestion runner anycompany)
	@touch $@

ifeq ($(UV),.uv/bin/uv)
.venv/.synced: | .uv/bin/uv
endif

# Into a folder of its own: that needs neither a virtual environment nor rights to the system's.
.uv/bin/uv:
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or later is needed, with pip.' >&2; exit 1; }
	@echo 'fetching uv ...'
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .uv 'uv>=0.8,<1'
