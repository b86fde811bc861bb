# Every target does its own set-up: Python >= 3.11 with venv, and make, are all that a fresh checkout needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run web test test-vm test-vm-short test-vm-long vm-image check soak bench docs deb lock clean

run: $(READY) web  ## the simulated site, live
	$(BIN)/enlace demo

web: $(READY)  ## the dashboard, anew where its source changed
	$(BIN)/python -m agent.web.build

test: $(READY) web  ## the whole quick suite, in four parts side by side
	$(BIN)/python -m tests.suite

check: $(READY)  ## linter, formatter, types, import layers; the same of the dashboard
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_layers.py
	$(BIN)/python -m tests.openapi_dump agent/web/openapi.json
	$(BIN)/python -m agent.web.check agent/web/openapi.json

# In a virtual machine: real CAN, systemd, power cuts. tests/vm/README.md says what it needs; it skips where that is missing.
test-vm: $(READY)  ## CAN, the service and 20 power cuts in a virtual machine
	$(BIN)/python -m pytest -q -s -m 'vm and not long and not quick' tests/vm

test-vm-short: $(READY)  ## the quick form: minutes, with 3 power cuts
	$(BIN)/python -m tests.vm.short

vm-image: $(READY)  ## the quick form's machine, made before, into the folder $$ENLACE_VM_IMAGE
	$(BIN)/python -m tests.vm.short --build

test-vm-long: $(READY)  ## 500 power cuts and 50 stops of the service: hours
	$(BIN)/python -m pytest -q -s -m 'vm and long' tests/vm

soak: $(READY)  ## three simulated days in one process, and minutes of the real one: nothing may grow
	$(BIN)/python -m bench._soak

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

# What to build: make deb DEB="--suite bookworm --arch amd64". Everything: both releases, both architectures.
deb: $(READY)  ## Debian packages into dist/
	$(BIN)/python packaging/build_deb.py $(DEB)

lock:  ## rewrite requirements.lock from pyproject.toml (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --all-extras --no-header --quiet pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) build dist agent/web/dist agent/web/node_modules *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
