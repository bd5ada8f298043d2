# `make help` lists the targets. All of them work in a virtual environment of their own, .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
LOWEST := .venv-lowest
# two test processes of one thread each suit two cores; threads of several processes would fight for them
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-lowest lint types bench gallery notebooks clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 12

install: $(INSTALLED)  ## make .venv with the pinned packages

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed: install it, or run make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: install  ## train, test and fuse on built-in scenes: pictures and a table in about five minutes
	$(RUN) -m fusion_lightning demo --output logs/demo

test: install lint types  ## lint, types and the fast tests
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist worksteal

test-all: install lint types  ## everything, the slow tests too
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist worksteal -m "slow or not slow"

# the lowest torch has no small build for processors: `make test-lowest TORCH=2.13.0` tests all other bounds
test-lowest:  ## the fast tests with the lowest versions that setup.cfg allows, in .venv-lowest
	$(PYTHON) -m venv --clear $(LOWEST)
	$(PYTHON) tests/lowest.py $(TORCH) > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(LOWEST)/constraints.txt -e '.[dev]'
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n $(WORKERS) --dist worksteal

lint: install  ## style and the direction of dependence
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-logo 2>/dev/null || $(VENV)/bin/lint-imports

types: install  ## mypy, strict
	$(RUN) -m mypy

# those that need neither data nor a checkpoint
BENCHMARKS := allocator blind cled cost data degradations drfusion ifcnn metrics mistold

bench: install  ## time what is meant to be fast, as ratios in one run
	for script in $(BENCHMARKS:%=benchmarks/%.py); do echo "== $$script"; $(RUN) $$script || exit 1; done

gallery: install  ## draw every degradation at every severity into logs/gallery
	$(RUN) -m fusion_lightning gallery --output logs/gallery

notebooks: install  ## run the notebooks from top to bottom
	$(RUN) -m pytest tests/test_notebooks.py -m "slow or not slow"

clean:  ## remove what was built here, never logs or data
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find fusion_lightning tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
