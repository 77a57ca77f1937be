# The tasks of this project, each one command. `make setup` needs Python 3.10 or newer with pip, and a package index;
# the others run it first where it is still to do.

PYTHON ?= python3

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.siamtrack-installed
VERSION_CHECK := import sys; sys.exit(sys.version_info < (3, 10))

.PHONY: setup demo test check bench finetune clean

setup: $(STAMP)

# setup.py reads the version from tracker/__init__.py.
$(STAMP): setup.py constraints.txt tracker/__init__.py
	@$(PYTHON) -c '$(VERSION_CHECK)' || { \
	  echo "siamtrack needs Python 3.10 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1);" \
	    "choose another: make setup PYTHON=python3.11" >&2; exit 1; }
	@echo "installing the environment of constraints.txt into $(VENV): this takes a minute or more"
	@# Where Python comes without ensurepip (Debian without python3-venv), the pip that is there fills the environment.
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { \
	  $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(PY) install --quiet pip; }
	@# setuptools first, at its pin: it builds the packages that come as source, this one included. All else follows in
	@# one step, so that no range can pull another torch, which may be gigabytes, before the pin is seen.
	$(PY) -m pip install --quiet --constraint constraints.txt setuptools
	$(PY) -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[live,eval,train,export,openvino,tune,dev]'
	@touch $@

demo: setup
	$(PY) tools/demo.py

test: setup
	$(PY) -m pytest

check: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: setup
	$(PY) -m benchmarks.stages
	$(PY) -m benchmarks.correlation

finetune: setup
	$(PY) -m tools.finetune_example

clean:
	rm -rf build dist demo *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
