# Every target does its own set-up. `make demo` and `make test` are the two that matter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo/karate-club

.PHONY: help setup engine image egress-image registry compiler sigstore strace demo test lint unit lock bench kernel-costs soak faults mutants reproductions oracle clean

# List the targets.
help:
	@awk '/^# /{if (!c) c = substr($$0, 3)} /^$$/{c = ""} /^[a-z-]+:/{split($$0, t, ":"); if (c) printf "  %-14s %s\n", t[1], c; c = ""}' Makefile

# Install the command and what develops it into .venv.
setup: $(VENV)/.ready

# The lock is whole, so that pip has nothing to resolve: left to it, a newer release of a locked package could stop it.
$(VENV)/.ready: .ci/requirements.lock pyproject.toml
	.ci/python $(PYTHON) $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --only-binary :all: -r .ci/requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check --quiet
	touch $@

# Start a Docker Engine where none answers.
engine:
	.ci/engine

# Make the jobs' image from its lock and load it.
image: setup engine
	$(BIN)/executor image load cpu

# What jobs of profiles with a network need beside their own image.
egress-image: image
	$(BIN)/executor image load egress

# Debian's docker-registry, for tests on loopback.
registry:
	.ci/registry build/registry

# For the libraries of custom operators that the tests build.
compiler:
	.ci/compiler

# What the tests verify with and sign against: Sigstore's packages of npm, and a private Sigstore made of them.
sigstore: build/sigstore/.ready

build/sigstore/.ready: .ci/sigstore tests/fakes/sigstore/package.json tests/fakes/sigstore/package-lock.json
	.ci/sigstore build/sigstore

# To see in the tests that signing and verifying connect to nothing.
strace:
	.ci/strace

# The main job, from nothing to a verified signed release.
demo: image
	rm -rf $(DEMO) && mkdir -p $(dir $(DEMO))
	$(BIN)/executor run examples/karate-club.yaml --out $(DEMO)
	@echo && cd $(DEMO) && find . -type f | sort | sed "s|^\./|  |"
	$(BIN)/executor verify $(DEMO)
	@echo && echo "The release lies in $(DEMO). To verify it again:" && echo "  $(BIN)/executor verify $(DEMO)"

# All tests, with all their set-up.
test: image egress-image registry compiler sigstore strace lint
	$(BIN)/python -m pytest

# Style, types and the order of imports.
lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --exclude '^(images/worker|tests/data|build)/' executor policy signing images tests
	MYPYPATH=images:. $(BIN)/mypy -p worker -p tools
	$(BIN)/lint-imports

# What needs neither an engine nor an image.
unit: setup compiler sigstore strace
	$(BIN)/python -m pytest -m "not engine"

# Measure, by hand: nothing here passes or fails on a time.
bench: image sigstore
	$(BIN)/python -m tests.bench.images
	$(BIN)/python -m tests.bench.sandbox
	$(BIN)/python -m tests.bench.inventory
	$(BIN)/python -m tests.bench.signing

# What the kernel objects of one job cost everybody else: ten minutes, on a machine that does nothing else.
kernel-costs: image
	$(BIN)/python -m tests.bench.kernel_costs --out build/kernel-costs.json

# A hundred hostile jobs, and a hundred executors killed at random moments: half an hour.
soak: image
	$(BIN)/python -m pytest -m soak -s tests/integration/test_soak.py

# Make system calls, signals and the engine fail at a thousand places: an hour.
faults: image compiler
	$(BIN)/python -m pytest -m faults -s tests/unit/executor tests/integration

# Take each check of the gate and of the verifier out, one at a time, and see that a test fails: half an hour.
mutants: image sigstore
	$(BIN)/python -m pytest -m mutants -s tests/integration/test_mutants.py

# Run the plans of ten releases again, and of ten whose weights were changed: some minutes.
reproductions: image
	$(BIN)/python -m pytest -m reproductions tests/integration/test_reproduce.py

# Hold the image's operating system layer against what an independent tool, mmdebstrap, makes of the same packages.
oracle: image
	.ci/mmdebstrap
	$(BIN)/python -m pytest -m oracle tests/integration/test_oracle.py

# Pin the host's environment anew, from pyproject.toml. Images are pinned by `executor image lock`.
lock:
	$(PYTHON) -m venv build/uv && build/uv/bin/pip install --quiet uv==0.13.9
	build/uv/bin/uv pip compile --quiet --no-header --no-emit-index-url --generate-hashes --python-version 3.11 \
		--group dev pyproject.toml --output-file .ci/requirements.lock

clean:
	rm -rf $(VENV) build
