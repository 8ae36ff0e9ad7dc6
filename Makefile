# Everything a contributor types. Each target makes what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROTO := proto/agentkeeper/v1/agentkeeper.proto

.PHONY: demo test check check-fast chaos containers generate lock bench clean

demo: $(STAMP)  ## three replicas, the whole story, the leader killed under load
	$(BIN)/agentkeeper demo

test: $(STAMP)  ## all tests; three at a time, as they mostly wait
	$(BIN)/pytest -n 3 --dist loadscope

check: check-fast test  ## what CI runs

check-fast: $(STAMP)  ## style, types, directions of import, generated code: seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	PATH="$(BIN):$$PATH" bash proto/generate.sh --check
	$(BIN)/python tools/make_sync.py --check
	$(BIN)/python tools/reference.py --check
	$(BIN)/python tools/cli_reference.py --check

generate: $(STAMP)  ## the protocol's code, the sync face of the SDK, the reference
	PATH="$(BIN):$$PATH" bash proto/generate.sh
	$(BIN)/python tools/make_sync.py
	$(BIN)/python tools/reference.py
	$(BIN)/python tools/cli_reference.py

chaos: $(STAMP)  ## five minutes of kills, pauses and restarts under load, checked and reported
	$(BIN)/python -m chaos run --scenario kills --minutes 5

containers: $(STAMP)  ## the compose files and the image on a Docker engine: builds, kills, cuts, upgrades
	$(BIN)/pytest tests/containers

bench: $(STAMP)  ## the figures in docs/benchmarks.md, measured here
	$(BIN)/python -m benchmarks

# torch is in no lock: its build for CPUs, which pip takes where it is set up to find it, and the one
# for graphics cards, which everybody else gets, differ in what they need. `make lock` is for a
# machine that finds the former.
OF_TORCH := --constraint requirements-torch.txt --unsafe-package torch --unsafe-package agentkeeper
LOCK := $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --no-header $(OF_TORCH) \
  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-annotate
OF_DEV := --constraint requirements-dev.lock

lock:  ## newest versions that fit, with hashes; what is deployed is what was tested
	$(LOCK) --upgrade --extra dev --extra export --extra semantic-large \
	  --output-file requirements-dev.lock pyproject.toml
	$(LOCK) $(OF_DEV) --output-file requirements.lock pyproject.toml
	$(LOCK) $(OF_DEV) --extra semantic-onnx --output-file requirements-semantic-onnx.lock pyproject.toml
	$(LOCK) $(OF_DEV) --extra export --output-file requirements-export.lock pyproject.toml
	printf 'hatchling\nsetuptools\nwheel\n' | $(LOCK) $(OF_DEV) --output-file requirements-build.lock -
	sed -i -e '/^#/d' -e '/^$$/d' requirements*.lock  # warnings about torch

INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check

$(STAMP): pyproject.toml requirements-dev.lock requirements-torch.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	HNSWLIB_NO_NATIVE=1 $(INSTALL) --no-deps --require-hashes -r requirements-dev.lock
	$(INSTALL) -r requirements-torch.txt
	$(INSTALL) --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
