# PYTHON chooses the interpreter of .venv: make demo PYTHON=python3.13
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# TensorFlow's start-up notices; warnings and errors in Python are unaffected.
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test lint format bazel-check clean

demo: .venv/installed
	$(BIN)/python -m train.demo

test: lint
	$(BIN)/python -m pytest

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bazel-check:
	.ci/bazel-check

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp per set of packages; either is older than the files that name them, or is up to date.
.venv/installed: setup.cfg pyproject.toml | .venv/bin/python
	@echo "Installing wrpn-tf and TensorFlow into .venv: about 3 GB, a few minutes."
	$(PIP) install --editable .
	@touch $@

.venv/installed-dev: setup.cfg pyproject.toml | .venv/bin/python
	@echo "Installing wrpn-tf, TensorFlow and the tools of its tests into .venv: about 3 GB, a few minutes."
	$(PIP) install --editable '.[dev]'
	@touch $@ .venv/installed

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	    { echo "wrpn-tf needs Python 3.10 to 3.13, and $(PYTHON) is $$($(PYTHON) --version 2>&1):" \
	      "name another one, as in make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
# The pip of older Pythons may search for minutes where a current one resolves at once.
	$(PIP) install --upgrade pip
