# Everything a contributor types. Each target makes what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROTO := proto/agentkeeper/v1/agentkeeper.proto

.PHONY: demo test check check-fast containers generate lock bench clean

demo: $(STAMP)  ## three replicas, the whole story, the leader killed under load
	$(BIN)/agentkeeper demo

test: $(STAMP)  ## all tests
	$(BIN)/pytest

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

containers: $(STAMP)  ## the compose files and the image on a Docker engine: builds, kills, cuts, upgrades
	$(BIN)/pytest tests/containers

bench: $(STAMP)  ## the figures in docs/benchmarks.md, measured here
	$(BIN)/python -m benchmarks

LOCK := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-annotate

lock:  ## newest versions that fit, with hashes; what is deployed is what was tested
	$(LOCK) --upgrade --extra dev --output-file requirements-dev.lock pyproject.toml
	$(LOCK) --constraint requirements-dev.lock --output-file requirements.lock pyproject.toml
	printf 'hatchling\nsetuptools\nwheel\n' | $(LOCK) --constraint requirements-dev.lock --output-file requirements-build.lock -

$(STAMP): pyproject.toml requirements-dev.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
