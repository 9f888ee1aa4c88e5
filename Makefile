# Every chore of the project. Paths are relative, so the folder may be called anything, also with spaces.
# `make install` runs by itself when it must; the second time nothing is fetched.

BASE_PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.installed
TESTS ?= tests
WORKERS ?= 2
RUNS ?= 300

.DEFAULT_GOAL := help
.PHONY: help install demo test test-containers asyncapi machine failpoints faults mutants lint bench endurance lock clean

help: ## list the chores
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

install: $(STAMP) ## the virtual environment with everything in it (then .venv/bin/swarm runs)

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(BASE_PYTHON)" || { echo "This needs Python 3.11 or newer; install it, or name it: make BASE_PYTHON=/path/to/python3" >&2; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || $(BASE_PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: install ## the main job: a swarm surveys a folder, loses a reader, and finishes
	@$(BIN)/python -m deploy.demo

test: install ## all tests; TESTS=tests/unit for some
	@$(BIN)/python -m pytest $(TESTS) -n $(WORKERS)

test-containers: install ## the tests that take their servers from containers
	@$(BIN)/python -m pytest tests -m containers

asyncapi: install ## docs/asyncapi.yaml anew, from the structs and subjects of the code
	@$(BIN)/python -m deploy.asyncapi docs/asyncapi.yaml

machine: install ## the ledger's machine for longer, with new seeds (RUNS=300)
	@SWARM_MACHINE_EXAMPLES=$(RUNS) $(BIN)/python -m pytest tests/contract/stores/test_ledger_machine.py

lint: install ## style, types and the import law
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

failpoints: install ## kill, stop and delay every process at every arrow of a message's way (minutes); FAILPOINTS=agent for some
	@SWARM_TEST_FAILPOINTS=$(or $(FAILPOINTS),all) $(BIN)/pytest tests/faults/test_failpoints.py -q -p no:cacheprovider -s

faults: install ## the battery: all four verbs while everything is killed, stopped and cut; SEED=7 MINUTES=2 (SEEDS="1 2 3", KINDS=kill_agent)
	@$(BIN)/python -m tests.faults.battery

mutants: install ## each safeguard switched off in the battery's own schema, and what catches it
	@$(BIN)/python -m tests.faults.battery.mutants

bench: install ## the benchmarks; BENCH="--only P1" for one
	@$(BIN)/python -m bench $(BENCH)

endurance: install ## does memory grow? 100,000 turns, about a minute
	@$(BIN)/python -m bench --only endurance

lock: install ## compile requirements.lock anew (needs the network)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --generate-hashes --no-header --quiet -o requirements.lock
	@! grep -nE '^(--|.*https?://)' requirements.lock

clean: ## remove what can be made again (not .swarm)
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
