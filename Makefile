# Everything runs in .venv, made on first use from constraints.txt; the Keras baseline of `make bench` in .venv-keras, and
# the tests of the web page in .venv-app: .venv with gradio and the older versions that it takes laid over it.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
BASELINE := .venv-keras/.installed
PAGE := .venv-app/.installed

.PHONY: help install demo test test-long test-browser lint bench
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

test: install $(PAGE)  ## Run the test suite (a few minutes).
	$(BIN)/python -m pytest --ignore=tests/app
	.venv-app/bin/python -m pytest tests/app

test-long: install  ## Run the tests that take long (about an hour).
	$(BIN)/python -m pytest -m long

test-browser: install $(PAGE)  ## Run the tests of the web page that need Chromium, `chromium` on the PATH (minutes).
	.venv-app/bin/python -m pytest tests/app -m browser

lint: install  ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install $(BASELINE)  ## Measure against Keras and PyTorch, into benchmarks-out/ (twenty minutes).
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/scaling.py

$(BASELINE): benchmarks/keras/requirements.txt
	test -x .venv-keras/bin/python || $(PYTHON) -m venv .venv-keras
	.venv-keras/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(PAGE): $(INSTALLED) apps/space/requirements.txt
	test -x .venv-app/bin/python || $(PYTHON) -m venv .venv-app
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(" + repr(sysconfig.get_path("purelib")) + ")")' \
		>"$$(.venv-app/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/over.pth"
	grep -v '^pixelcnn' apps/space/requirements.txt >.venv-app/pins.txt
	.venv-app/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-app/pins.txt gradio
	@touch $@
