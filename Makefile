# Every target sets itself up: a fresh Debian machine needs Python >= 3.11 and make, nothing else.
# `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The order of the steps of `make test` is part of what it promises (fast checks first), also under -j.
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# Which Python; empty: the newest that can make a virtual environment. One that is named gets its own environment,
# as in: make test PYTHON=python3.12
PYTHON ?=
VENV := .venv$(if $(PYTHON),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
MADE := $(VENV)/.made
READY := $(VENV)/.ready

# .venv names the folder that it was made for: one that was moved or copied here is made again,
# and so is one whose Python has gone.
KEEP := $(shell [ "$$(cat $(MADE) 2>/dev/null)" = "$(CURDIR)" ] && [ -x $(BIN)/python ] && echo yes)

# Folders that hold Python code; those that do not exist yet are left out.
CODE := $(wildcard src tests bench examples packages)

# How many test processes; the machine's own word is not asked, so that runs are alike.
JOBS ?= 2
# Extra arguments for pytest, as in: make test-fast ARGS="-k lease -x --randomly-seed=7"
ARGS ?=
SEED ?= 1
STEPS ?= 2000
# How long processes are killed and stopped in `make test-faults`.
FAULT_SECONDS ?= 60

# uv works on this folder's .venv alone: not on an activated one, and it never fetches a Python.
unexport VIRTUAL_ENV UV_PYTHON UV_PROJECT UV_SYSTEM_PYTHON
export UV_PROJECT_ENVIRONMENT := $(VENV)
export UV_PYTHON_DOWNLOADS := never
# The tests start hundreds of processes: what Python compiles is kept, whatever the machine says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup test test-fast test-long test-faults lint types imports examples format coverage bench demo simulate simulate-long lock clean FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## make .venv with everything that the other targets need

define make_venv
found=; usable=
for python in $${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
    if ! "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then continue; fi
    found=$${found:-$$python}
    if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then usable=$$python; break; fi
done
if [ -z "$$found" ]; then
    echo "No Python >= 3.11: $${PYTHON:-none on PATH}. On Debian 12 or newer: sudo make setup-system" >&2; exit 1
fi
if [ -z "$$usable" ]; then
    echo "$$found cannot create a virtual environment. On Debian or Ubuntu: sudo make setup-system" >&2; exit 1
fi
echo "making $(VENV) with $$("$$usable" --version)"
"$$usable" -m venv --clear $(VENV)
$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
printf '%s\n' '$(CURDIR)' >$(MADE)
endef
export MAKE_VENV = $(make_venv)
export PYTHON

$(MADE): $(if $(KEEP),,FORCE)
	@bash -euo pipefail -c "$$MAKE_VENV"

$(READY): pyproject.toml uv.lock $(MADE)
	@$(BIN)/uv sync --locked --quiet
	@touch $@

FORCE:

# Installs nothing on the system. Tests that need a program that is missing are skipped, named and counted.
test: lint types imports prefect terraform ## every check and every test but the long ones, fast ones first
	@$(BIN)/pytest -n $(JOBS) -m 'not long' $(ARGS)

.PHONY: prefect
prefect: $(READY) ## environments with Prefect, for the tests with its own clients
	@$(BIN)/python -m tests.prefect.environments

.PHONY: setup-system
setup-system: ## install the system packages that some tests need (Debian or Ubuntu, as root)
	@tests/setup_system

.PHONY: test-pythons
test-pythons: ## make test with each Python from 3.11 to 3.14 on this machine
	@for version in 3.11 3.12 3.13 3.14; do \
	    python=$$(tests/find_python $$version) || { echo "NOT TESTED WITH PYTHON $$version: not found" >&2; continue; }; \
	    echo "testing with $$python"; \
	    $(MAKE) test PYTHON="$$python"; \
	done

TERRAFORM_TESTS := packages/terraform-provider-ebbgate/tests

.PHONY: terraform test-terraform
terraform: $(READY) ## the environment of the Terraform provider, where terraform is on PATH
	@$(BIN)/python $(TERRAFORM_TESTS)/terraform_environment.py

test-terraform: terraform ## the Terraform provider, with the real terraform, offline
	@$(BIN)/pytest -n $(JOBS) --durations 5 $(TERRAFORM_TESTS) $(ARGS)

test-fast: $(READY) ## only the tests that are not slow, nothing else
	@$(BIN)/pytest -n $(JOBS) -m 'not slow and not long' $(ARGS)

test-long: $(READY) ## the tests that are slow by nature: thousands of interrupts, hundreds of processes
	@$(BIN)/pytest -n $(JOBS) -m long --timeout 1200 $(ARGS)

test-faults: $(READY) ## kill, stop, fill disks and cut the power at full size: make test-faults SEED=4711
	@EBBGATE_FAULT_SECONDS=$(FAULT_SECONDS) EBBGATE_FAULT_ROOM=8 EBBGATE_FAULT_SEED=$(SEED) \
	    $(BIN)/pytest -s --timeout 600 tests/faults $(ARGS)

.PHONY: mutants
mutants: $(READY) ## plant bugs and say how each is caught: by everything that watches, then by the history checker alone
	@$(BIN)/python -m tests.mutants.hunt $(ARGS)
	@$(BIN)/python -O -m tests.mutants.hunt --alone $(ARGS)

lint: $(READY) ## style and common mistakes
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)

types: $(READY) ## static types, strict
	@$(BIN)/mypy $(CODE)

imports: $(READY) ## who may import whom
	@$(BIN)/lint-imports --no-logo

examples: $(READY) ## run every example, each in a home of its own
	@for example in $(wildcard examples/*.py); do \
	    home=$$(mktemp -d); \
	    echo "running $$example"; \
	    HOME=$$home XDG_DATA_HOME=$$home XDG_STATE_HOME=$$home XDG_RUNTIME_DIR=$$home \
	        timeout 120 $(BIN)/python -W error "$$example" >"$$home/output" 2>&1 \
	        || { cat "$$home/output"; echo "$$example failed" >&2; rm -rf "$$home"; exit 1; }; \
	    rm -rf "$$home"; \
	done

.PHONY: docs
docs: $(READY) ## build the site of the pages into build/site, and look at its links
	@$(BIN)/python -m tests.docs.site

format: $(READY) ## let the formatter and the safe fixes rewrite the code
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

coverage: $(READY) ## branch coverage of the core: must be complete
	@$(BIN)/coverage run -m pytest -q -m 'not slow' tests/core
	@$(BIN)/coverage report --include='src/ebbgate/core/*' --fail-under=100

bench: $(READY) ## the named workloads, ratios from one run
	@$(BIN)/python -m bench $(ARGS)

demo: $(READY) ## see it work
	@$(BIN)/ebbgate demo

simulate: $(READY) ## a faulty world from one seed: make simulate SEED=4711 STEPS=2000
	@$(BIN)/python -m ebbgate.testing.simulate --seed $(SEED) --steps $(STEPS)

simulate-long: $(READY) ## one faulty world after the other, from SEED on, until stopped
	@$(BIN)/python -m ebbgate.testing.simulate --seed $(SEED) --steps $$(($(STEPS) * 5)) --seeds 0 --jobs $(JOBS)

lock: $(MADE) ## resolve the dependencies anew after a change of pyproject.toml
	@$(BIN)/uv lock

clean: ## remove everything that was made here, .venv included
	rm -rf .venv .venv-* .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage .coverage.* build dist
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
