# Everything runs in .venv, made on first use from constraints.txt; Keras, for `make bench` and `make test-keras`, in
# .venv-keras.
PYTHON ?= python3
BIN := .venv/bin
INTERPRETER = $(firstword $(wildcard $(BIN)/python) $(PYTHON))
INSTALLED := .venv/.installed
SITE := .venv/.docs
BASELINE := .venv-keras/.installed
KERAS2 := .venv-keras/.keras2
KERNEL := .venv/.kernel
FUZZER := .venv/.fuzz
FUZZ_SECONDS ?= 600
OUT = notebooks/pixelcnn.ipynb

.PHONY: help install demo test test-slow test-long test-browser test-keras lint docs notebook bench fuzz
help:  ## Show the targets.
	@awk -F ':.*##  *' '/^[a-z-]+:.*##/ {printf "make %-14s%s\n", $$1, $$2}' Makefile

install: $(INSTALLED)  ## Make .venv with the package, its dependencies and the development tools.

$(INSTALLED): pyproject.toml constraints.txt
	@$(INTERPRETER) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, and $(INTERPRETER) is " + sys.version.split()[0] + "; try, where there is no .venv: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: install  ## Train on MNIST by class for a minute and draw digits of each class into demo/.
	$(BIN)/python examples/demo.py

test: install  ## Run the test suite, a process per core (a few minutes).
	$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: install  ## Run the tests that take many seconds each, which CI runs as well (a few minutes).
	$(BIN)/python -m pytest -n auto --dist loadfile -m 'slow and not long'

test-long: install  ## Run the tests that take long (about an hour).
	$(BIN)/python -m pytest -m long

test-keras: install $(KERAS2)  ## Run the tests that need real Keras (two minutes, and 2 GB for .venv-keras).
	$(BIN)/python -m pytest -m keras

test-browser: install  ## Run the tests of the web page that need Chromium, `chromium` on the PATH (minutes).
	$(BIN)/python -m pytest tests/app -m browser

lint: install  ## Check style, spelling, types and the layers of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(SITE)  ## Write the map of the files and build the documentation's site into site/; a warning is an error.
	$(BIN)/python docs/map.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(SITE): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

notebook: install $(KERNEL)  ## Execute the notebook in place, or into OUT=FILE (a few minutes).
	$(BIN)/python notebooks/execute.py $(OUT)

$(KERNEL): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[notebook]'
	@touch $@

fuzz: install $(FUZZER)  ## Fuzz the codec's decoder for ten minutes, or FUZZ_SECONDS, on two cores.
	@for mode in raw repaired; do \
	    $(BIN)/python tests/codec/fuzz.py $$mode -max_total_time=$(FUZZ_SECONDS) & all="$$all $$!"; \
	done; \
	for one in $$all; do wait $$one || failed=1; done; exit $${failed:-0}

$(FUZZER): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@touch $@

bench: install $(BASELINE)  ## Measure against Keras and PyTorch, into benchmarks-out/ (twenty minutes).
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/scaling.py

$(BASELINE): benchmarks/keras/requirements.txt
	test -x .venv-keras/bin/python || $(PYTHON) -m venv .venv-keras
	.venv-keras/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(KERAS2): $(BASELINE)  # without its dependencies: it asks for another build of TensorFlow
	.venv-keras/bin/python -m pip install --quiet --disable-pip-version-check --no-deps tf_keras==2.21.0
	@touch $@
