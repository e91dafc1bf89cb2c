# Every target does its own set-up: it needs Python >= 3.11 (with venv and pip), git and make.
# `make` alone lists the targets. Another interpreter: make test PYTHON=python3.13

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
# The tests start hundreds of processes that import the same modules: compile them once.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
# Empty means: the first of python3, python3.14 ... python3.11 that is new enough.
PYTHON ?=
# Passed on to pytest: make test ARGS="-k stream -x"
ARGS ?=

# The stamp names the folder the environment was made for. A copied or moved folder brings an
# environment along that still points at the old one; it must be made anew, not used. So must one
# whose interpreter has been removed.
STAMP := $(VENV)/.spoolway-installed
ifneq ($(shell test -x $(BIN)/python && cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): FORCE
endif

# LiteLLM needs a redis-py that arq does not take: its proxy has an environment of its own.
LITELLM_VENV := .venv-litellm
LITELLM_STAMP := $(LITELLM_VENV)/.spoolway-installed
ifneq ($(shell test -x $(LITELLM_VENV)/bin/python && cat $(LITELLM_STAMP) 2>/dev/null),$(CURDIR))
$(LITELLM_STAMP): FORCE
endif

.PHONY: help run test litellm chaos audit lint types format bench bench-check bench-proxy bench-scale bench-usage clean FORCE

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(STAMP) ## Start everything on this machine, send real traffic, show the rows arriving
	@$(BIN)/python -m examples.demo

# From a fresh clone, all of pytest's workers would compile every test module at the same time: it is
# done once, beside mypy. What is wrong with one, pytest then says itself.
test: lint ## Everything: lint, types and tests against real servers
	@test -d tests/__pycache__ || { $(BIN)/python -m pytest --collect-only -qq >/dev/null 2>&1 & }; \
	$(MAKE) types && wait
	@echo "==> pytest"
	@$(BIN)/python -m pytest -q -n 4 --dist worksteal $(ARGS)

litellm: $(STAMP) $(LITELLM_STAMP) ## The callback in a real LiteLLM proxy, and the producer on its redis-py
	@echo "==> pytest, LiteLLM"
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m litellm -o faulthandler_timeout=0 \
		tests/litellm tests/test_producer_redis8.py $(ARGS)

chaos: $(STAMP) ## The long proofs: every fault, every moment (long)
	@START_ANEW=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m chaos -o faulthandler_timeout=0 $(ARGS)

audit: $(STAMP) ## Known vulnerabilities of the pinned packages (needs the network)
	@.ci/audit $(BIN)/python $(ARGS)

lint: $(STAMP) ## ruff: rules and formatting, nothing is changed
	@echo "==> ruff check"
	@$(BIN)/ruff check --quiet .
	@echo "==> ruff format --check"
	@$(BIN)/ruff format --check --quiet .

types: $(STAMP) ## mypy --strict over the rooms, tests, examples and benchmarks
	@echo "==> mypy"
	@$(BIN)/mypy --num-workers 2

format: $(STAMP) ## Rewrite the sources: formatting and the fixes ruff calls safe
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP) ## Measure ingest against plain COPY, SQLAlchemy, arq and a list; the spool; what emit() costs
	@$(BIN)/python benchmarks/ingest.py $(ARGS)

bench-check: $(STAMP) ## Measure what is in benchmarks/recorded.json; fail if a ratio has fallen (five minutes)
	@$(BIN)/python benchmarks/ingest.py --check $(ARGS)

bench-proxy: $(STAMP) ## Measure what a proxy loses by being recorded, also while Redis is away
	@$(BIN)/python benchmarks/proxy.py $(ARGS)

bench-scale: $(STAMP) ## Measure how costs grow with workers, rows, backlog and size; predict from that
	@$(BIN)/python benchmarks/capacity.py measure $(ARGS)

bench-usage: $(STAMP) ## Measure usage and logs at ten million requests, and what they cost a worker (long)
	@$(BIN)/python benchmarks/lookups.py $(ARGS)

clean: ## Remove the environment, caches and built packages (./var, the data, stays)
	rm -rf $(VENV) $(LITELLM_VENV) .venv-audit build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml requirements.txt
	@set -eu; \
	new_enough='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'; \
	if [ "$$(cat $(STAMP) 2>/dev/null || :)" = "$(CURDIR)" ] && $(BIN)/python -c "$$new_enough" 2>/dev/null; then \
		echo "==> requirements changed: updating $(VENV)"; \
	else \
		python=; \
		for candidate in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
			if "$$candidate" -c "$$new_enough" >/dev/null 2>&1; then python=$$candidate; break; fi; \
		done; \
		if [ -z "$$python" ]; then \
			echo "spoolway: no Python >= 3.11 with venv and pip found (tried: $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)); install one or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; \
			exit 1; \
		fi; \
		echo "==> making $(VENV) with $$("$$python" --version) (once, about a minute)"; \
		rm -rf $(VENV); \
		"$$python" -m venv $(VENV); \
	fi; \
	$(BIN)/python -m pip install -qq --no-input --disable-pip-version-check -r requirements.txt; \
	$(BIN)/python -m pip install -qq --no-input --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	printf '%s\n' "$(CURDIR)" > $(STAMP)

$(LITELLM_STAMP): pyproject.toml requirements-litellm.txt | $(STAMP)
	@set -eu; \
	if [ "$$(cat $(LITELLM_STAMP) 2>/dev/null || :)" != "$(CURDIR)" ]; then \
		echo "==> making $(LITELLM_VENV) (once, about a minute; 800 MB)"; \
		rm -rf $(LITELLM_VENV); \
		$(BIN)/python -m venv $(LITELLM_VENV); \
	else \
		echo "==> requirements changed: updating $(LITELLM_VENV)"; \
	fi; \
	$(LITELLM_VENV)/bin/python -m pip install -qq --no-input --disable-pip-version-check -r requirements-litellm.txt; \
	$(LITELLM_VENV)/bin/python -m pip install -qq --no-input --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	printf '%s\n' "$(CURDIR)" > $(LITELLM_STAMP)
