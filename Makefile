# PYTHON chooses the interpreter of .venv: make demo PYTHON=python3.13
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# `test` needs lint and docs, which run beside each other.
MAKEFLAGS += --jobs=2

# TensorFlow's notices and warnings in C++; those in Python are unaffected.
export TF_CPP_MIN_LOG_LEVEL ?= 2

.DELETE_ON_ERROR:
.PHONY: demo test lint format docs bazel-check clean

demo: .venv/installed
	$(BIN)/python -m train.demo

# Two processes: each test file runs in one, whose trained fixtures it shares.
test: lint docs
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in .build/site; a broken link or name ends it.
docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bazel-check:
	.ci/bazel-check

clean:
	rm -rf .venv .build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: what is newer than setup.cfg and pyproject.toml is not installed again.
.venv/installed: setup.cfg pyproject.toml | .venv/bin/python
	@echo "Installing wrpn-tf and TensorFlow into .venv: about 3 GB, a few minutes."
	$(PIP) install --editable '.[train]'
	@touch $@

.venv/installed-dev: setup.cfg pyproject.toml | .venv/bin/python
	@echo "Installing wrpn-tf, TensorFlow and the test tools into .venv: about 3 GB, a few minutes."
	$(PIP) install --editable '.[dev]'
	@touch $@ .venv/installed

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
	    2>/dev/null || { echo "wrpn-tf needs Python 3.10 to 3.13, which $(PYTHON) is not:" \
	    "name another one, as in make PYTHON=python3.12 demo." >&2; exit 1; }
	$(PYTHON) -m venv .venv
# The pip of older Pythons may search for minutes where a current one resolves at once.
	$(PIP) install --upgrade pip
