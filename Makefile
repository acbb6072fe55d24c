# Connector Service. `make` alone lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && { echo $$p; break; }; done)
BIN := .venv/bin
READY := .venv/.ready
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate
FAST := $(wildcard tests/unit tests/property)
APART := tests/docs/ $(addprefix tests/e2e/test_,demo.py servers.py spine.py)
BESIDE := $(filter-out tests/bench/ tests/docs/ tests/e2e/ tests/__pycache__/,$(wildcard tests/*/))
PYTEST = $(BIN)/python -m pytest -m "not long"
F ?= all
ARGS ?=

.PHONY: help setup up demo test check error-tables record docs-test spine-test figure figures lock down clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with everything pinned, and fetch Apache Kafka's jars (done once)

$(READY): requirements/dev.txt pyproject.toml deploy/local/kafka/pom.xml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (set PYTHON=...)" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "setup: making .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv .venv; }
	@echo "setup: installing pinned packages"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index --no-build-isolation -e .
	@$(BIN)/python -m deploy.local jars
	@touch $@

up: setup ## start the servers, the sandbox and one worker; Ctrl-C stops them
	@$(BIN)/connector up $(ARGS)

demo: setup ## the main job as one story on real servers, then exit
	@$(BIN)/connector demo $(ARGS)

test: setup ## all tests on real servers, except figures and those marked long
	@# On all cores first, then whole worlds two at a time, then those whose timing must be theirs alone.
	@# Exit code 5: nothing of what ARGS choose is in this part.
	@$(PYTEST) $(BESIDE) -n auto --dist worksteal $(ARGS) || test $$? -eq 5
	@$(PYTEST) tests/e2e/ $(APART:%=--ignore=%) -n auto --dist loadfile $(ARGS) || test $$? -eq 5
	@$(PYTEST) $(APART) $(ARGS) || test $$? -eq 5

check: setup ## lint, format, types, imports, fast tests, sizes; needs no server
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m pytest $(FAST) -q $(ARGS)
	@$(BIN)/python tests/bench/sizes.py

error-tables: setup ## run a test for each row of each adapter's error table, and count them
	@$(BIN)/python -m tests.connectors.error_tables

record: setup ## record what each adapter says and hears, into build/recordings (ARGS=TTD for one type)
	@$(BIN)/python -m tests.recordings.record $(ARGS)

docs-test: setup ## type every command of README and how-to pages, and count them (ARGS=--short leaves out make test)
	@$(BIN)/python -m tests.docs.run $(ARGS)

spine-test: setup ## kills, freezes, deaths at crash points, servers away, twenty starts over a backlog (long)
	@$(BIN)/python -m tests.e2e.spine $(ARGS)

figure: setup ## measure one figure: make figure F=F13
	@$(BIN)/python -m tests.bench.figures $(F)

figures: setup ## measure all figures
	@$(BIN)/python -m tests.bench.figures all

lock: setup ## resolve requirements/*.txt again from pyproject.toml
	@$(COMPILE) --upgrade -o requirements/runtime.txt
	@$(COMPILE) --upgrade -c requirements/runtime.txt --extra dev --extra local -o requirements/dev.txt

down: setup ## stop a stack that was left running
	@$(BIN)/python -m deploy.local down $(ARGS)

clean: ## remove what the targets made, except .venv and the jars
	@test ! -x $(BIN)/python || $(BIN)/python -m deploy.local down || true
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
