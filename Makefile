# Everything runs in .venv, made on first use from constraints.txt; the Keras baseline of `make bench` in .venv-keras.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
SITE := .venv/.docs
BASELINE := .venv-keras/.installed

.PHONY: help install demo test test-long lint docs bench
help:  ## Show the targets.
	@sed -n 's/^\([a-z-]*\):.*##\(.*\)/make \1 \t\2/p' Makefile | expand -t 16

install: $(INSTALLED)  ## Make .venv with the package, its dependencies and the development tools.

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, and $(PYTHON) is " + sys.version.split()[0] + "; try: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: install  ## Train the quick network on MNIST (about two minutes) and draw digits into demo/.
	$(BIN)/python examples/demo.py

test: install  ## Run the test suite (a few minutes).
	$(BIN)/python -m pytest

test-long: install  ## Run the tests that take long (about an hour).
	$(BIN)/python -m pytest -m long

lint: install  ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(SITE)  ## Build the documentation's site into site/; a warning is an error.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(SITE): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

bench: install $(BASELINE)  ## Measure against Keras and PyTorch, into benchmarks-out/ (twenty minutes).
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/scaling.py

$(BASELINE): benchmarks/keras/requirements.txt
	test -x .venv-keras/bin/python || $(PYTHON) -m venv .venv-keras
	.venv-keras/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@
