.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint browser services audit-dependencies docs release licences clean

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
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile

demo: $(INSTALLED)  ## erase nine artists, restore Picasso, export and verify a checkpoint
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

# The tests' models are too small for threads: a process a core takes half as long as one that uses all.
# What goes to which process, and in which order, is said in tests/conftest.py.
PYTEST := pytest --numprocesses=auto --maxprocesses=4 --dist=loadgroup --no-loadscope-reorder
FIRST_TIER := -m "not second_tier"

test: lint browser services  ## lint, then run the tests of every change
	OMP_NUM_THREADS=1 $(BIN)/python -m $(PYTEST) $(FIRST_TIER)

test-all: lint browser services  ## lint, then run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m $(PYTEST) --hypothesis-profile=deep

coverage: $(INSTALLED) browser services  ## lines and branches that the tests of every change run
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m $(PYTEST) $(FIRST_TIER)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(INSTALLED)  ## ruff, codespell and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
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

# A service that does not answer finds nothing wrong: an old package with known holes shows whether
# it does. Not a part of `make test`, which needs no network and must not turn red by itself.
audit-dependencies: $(INSTALLED)  ## ask for known vulnerabilities of what is installed
	$(BIN)/python -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) pip-audit
	@echo 'jinja2==2.10' > $(VENV)/audit/known.txt; \
	$(VENV)/audit/bin/pip-audit --no-deps --disable-pip -r $(VENV)/audit/known.txt 2>&1 \
		| grep -q 'Found .* known vulnerabilit' \
		|| { echo "The service of pip-audit cannot be reached from here: nothing was audited." >&2; exit 3; }
	$(VENV)/audit/bin/pip-audit --path \
		"$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

docs: $(INSTALLED)  ## check the links of the documents, and that generated pages are current
	$(BIN)/python -m pytest tests/test_docs.py tests/test_licences.py

# The wheel is built from the source distribution: what that lacks, the tests of the wheel find.
release: $(INSTALLED)  ## build dist/, and check what is in it
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	SHIFTREG_TESTS_DIST="$(CURDIR)/dist" $(BIN)/python -m pytest tests/test_wheel.py

licences: $(INSTALLED)  ## list the licences of what is installed, docs/licences.md
	$(BIN)/python docs/licences.py > docs/licences.md.new
	mv docs/licences.md.new docs/licences.md

clean:  ## remove what make has made; the registry in .shiftreg stays
	rm -rf $(VENV) build dist demo *.egg-info .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamp is written last, so that an installation that failed half-way is done again.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "shiftreg needs Python 3.11 or newer. Say which: make PYTHON=python3.12" >&2; exit 1; }
	rm -f $@
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) --editable '.[dev,miniature]'
	touch $@
