# Everything runs in .venv, made at first need. `make PYTHON=python3.12 …` chooses the interpreter.
# The torch wheel from PyPI brings CUDA; without a GPU, this one is smaller by gigabytes:
#   make setup PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
PIP_FLAGS ?=
WORKERS ?= 2
OUT ?= demo

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo notebooks test slow lint format types docs benchmarks constraints frontend frontend-same node browser clean

help:
	@echo "make demo        set up, then run the main job on an embedded model; results in $(OUT)/"
	@echo "make test        set up, then run the tests and the docstrings' examples"
	@echo "make slow        the slower suites"
	@echo "make lint types  ruff, mypy"
	@echo "make docs        the documentation, in build/docs; every warning is an error"
	@echo "make benchmarks  every benchmark, at a size that takes seconds"
	@echo "make frontend    build the script and the stylesheet of reports (needs node and npm; what it makes is committed)"
	@echo "make browser     a Chromium for the tests that open reports in one"
	@echo "make notebooks   run docs/notebooks anew, and keep what they give"
	@echo "make clean       remove what the above made, .venv included"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "circuitkit needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	@# Debian splits venv's pip off: a pip beside the interpreter can fill the environment just as well.
	@test -x $(BIN)/pip || { $(PYTHON) -c 'import ensurepip' && $(PYTHON) -m venv $(VENV); } 2>/dev/null || \
	  { $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; } 2>/dev/null || { \
	  rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: sudo apt install python3-venv" >&2; \
	  exit 1; }
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --constraint constraints.txt --editable '.[test,docs]'
	@touch $@

# One thread, as for the tests: the embedded models are small.
demo: setup
	OMP_NUM_THREADS=1 $(BIN)/circuitkit demo --out $(OUT)

# One thread a worker: the tests' tensors are small, and two pools of threads on two cores wait for each other. A file's
# tests run in one worker, so that what they share is made once, and files in the order that conftest.py gives them.
# Bytecode is kept: every process that tests start would else compile the package anew.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: setup
	$(PYTEST) -m "not slow" --durations=10

slow: setup
	$(PYTEST) -m slow --durations=10 || test $$? -eq 5

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup
	$(BIN)/mypy

# Anew each time: what a page says of another is known only if both are read.
docs: setup
	rm -rf build/docs
	$(BIN)/sphinx-build -W --keep-going -n -q -d build/doctrees docs build/docs
	@echo "open build/docs/index.html"

benchmarks: setup
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script --quick; done

# Runs the notebooks anew, and keeps what they give.
notebooks: setup
	$(BIN)/python tests/notebooks.py

constraints: setup
	{ head -1 constraints.txt; $(BIN)/pip freeze --all --exclude pip --exclude-editable | sed 's/+cpu$$//'; } > constraints.tmp
	mv constraints.tmp constraints.txt

# What a report's page runs. It is committed, so that Python alone is enough to install and to use the package.
ASSETS := src/circuitkit/report/assets
NPM ?= npm
MODULES := frontend/node_modules/.package-lock.json

$(MODULES): frontend/package.json frontend/package-lock.json
	@$(MAKE) --no-print-directory node
	cd frontend && $(NPM) ci --ignore-scripts --no-audit --no-fund
	@touch $@

frontend: $(MODULES)
	cd frontend && $(NPM) run --silent check && $(NPM) run --silent build

# The same sources give the same bytes: what is committed is held against a fresh build.
frontend-same: $(MODULES)
	cd frontend && $(NPM) run --silent check
	@fresh=$$(mktemp -d) && (cd frontend && $(NPM) run --silent build -- $$fresh) && \
	  diff -rq $$fresh $(ASSETS) && rm -r $$fresh || { \
	  echo "$(ASSETS) is not what frontend/ builds: run make frontend, and commit what it made" >&2; exit 1; }

# $(call needed,COMMANDS,PACKAGES): nothing where one of the commands is there; else Debian's packages, where we may.
needed = for name in $(1); do command -v $$name > /dev/null && exit 0; done; \
  if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(2); \
  else \
    echo "none of $(1) is on the PATH: install one (Debian and Ubuntu: sudo apt install $(2))" >&2; exit 1; \
  fi

browser:
	@$(call needed,chromium chromium-browser google-chrome,chromium fonts-dejavu-core)

node:
	@$(call needed,$(NPM),nodejs npm)

clean:
	rm -rf frontend/node_modules $(VENV) demo out dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
