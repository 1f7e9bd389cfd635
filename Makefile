.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint browser services clean

PYTHON ?= python3
PIP_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Nothing is downloaded when the tests and the demo run: a forgotten download fails here.
export HF_HUB_OFFLINE := 1
# Threads that wait without spinning leave the processor to whatever else runs beside the tests.
export OMP_WAIT_POLICY := PASSIVE

help:  ## show this help
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile

demo: $(INSTALLED)  ## erase nine artists, restore Picasso, export and verify a checkpoint
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

test: lint browser services  ## lint, then run all tests
	$(BIN)/python -m pytest

lint: $(INSTALLED)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tests open the page of `shiftreg report` in it. Without it they are skipped, except in CI.
browser:  ## install chromium for the tests, where apt-get may
	@if ! command -v chromium || ! command -v chromedriver; then \
		[ "$$(id -u)" = 0 ] && command -v apt-get && apt-get update -qq && \
		apt-get install -qq --no-install-recommends chromium chromium-driver || \
		{ echo "Install chromium and chromedriver (Debian: chromium chromium-driver)." >&2; \
		[ -z "$$CI" ]; }; \
	fi >/dev/null

# The tests run a team's server on it, see tests/servers.py. Without it they are skipped, except in CI.
services:  ## install PostgreSQL for the tests, where apt-get may
	@if ! command -v initdb && ! ls /usr/lib/postgresql/*/bin/initdb; then \
		[ "$$(id -u)" = 0 ] && command -v apt-get && apt-get update -qq && \
		apt-get install -qq --no-install-recommends postgresql || \
		{ echo "Install PostgreSQL (Debian: postgresql)." >&2; [ -z "$$CI" ]; }; \
	fi >/dev/null

clean:  ## remove what make has made; the registry in .shiftreg stays
	rm -rf $(VENV) build dist demo *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamp is written last, so that an installation that failed half-way is done again.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "shiftreg needs Python 3.11 or newer. Say which: make PYTHON=python3.12" >&2; exit 1; }
	rm -f $@
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) --editable '.[dev,miniature]'
	touch $@
