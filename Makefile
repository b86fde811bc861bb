# Every target does its own set-up: Python >= 3.11 with venv, and make, are all that a fresh checkout needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test check bench docs lock clean

run: $(READY)  ## the simulated site, live
	$(BIN)/enlace demo

# The unit tests beside the others, which mostly wait for processes and clocks: two thirds of the time of one after the other.
test: $(READY)  ## the whole quick suite
	@$(BIN)/python -m pytest -q -p no:cacheprovider tests/unit > .test-unit.log 2>&1 & unit=$$!; \
	trap 'kill $$unit 2> /dev/null' INT TERM; \
	$(BIN)/python -m pytest -q --ignore=tests/unit; others=$$?; \
	wait $$unit; code=$$?; cat .test-unit.log; rm -f .test-unit.log; \
	[ $$others -eq 0 ] && [ $$code -eq 0 ]

check: $(READY)  ## linter, formatter, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_layers.py

bench: $(READY)  ## every speed and memory figure with its ratio
	$(BIN)/python -m bench

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Enlace needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

docs: $(READY)  ## docs/configuration.md, profiles.md, ocpp.md, the tables of alarms.md and metrics.md from the models
	$(BIN)/python -m docs.reference
	$(BIN)/python -m docs.profiles
	$(BIN)/python -m docs.chargers
	$(BIN)/python -m docs.alarms
	$(BIN)/python -m docs.metrics

lock:  ## rewrite requirements.lock from pyproject.toml (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --all-extras --no-header --quiet pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
