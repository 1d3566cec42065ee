# `make help` lists the targets. Each one sets up what it needs: nothing has to be run before it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# The interpreter that .venv is made from, and that runs what needs no .venv.
PYTHON ?= python3
export PYTHON
BIN := .venv/bin
CLUSTER := $(PYTHON) hack/cluster

.PHONY: help setup proto verify lint types unit check sim test soak cluster cluster-down images demo demo-kubernetes picture bench bench-peers bench-cluster lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## Make .venv from requirements.lock; instant when it is up to date
	@hack/venv.sh

proto: setup ## Generate the wire code and its snapshot from proto/
	@$(BIN)/python hack/gen_protos.py
	@$(BIN)/python hack/wire_snapshot.py

verify: proto ## Generate everything again; fails when the tree then differs from what is checked in
	@git diff --exit-code --stat -- client/penstock/v1 proto
	@test -z "$$(git ls-files --others --exclude-standard -- client/penstock/v1 proto)" || { echo "verify: generated files are not checked in"; exit 1; }

lint: setup ## Style, formatting, and the layers between modules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/lint-imports

types: setup ## Check the types, strictly
	@$(BIN)/mypy
	@$(BIN)/mypy --config-file hack/mypy.ini hack/*.py hatch_build.py
	@MYPYPATH=hack:hack/cluster $(BIN)/mypy --config-file hack/mypy.ini benchmarks/*.py
	@for program in hack/cluster hack/image; do $(BIN)/mypy --config-file hack/mypy.ini $$program; done

unit: setup ## Run the unit tests
	@$(BIN)/pytest -q tests/unit

check: lint types unit ## Lint, types, unit tests: under one minute, for every commit

sim: setup ## Pools under simulated faults: make sim SEEDS=10000; PENSTOCK_SIM_SEED=… replays one
	@PENSTOCK_SIM_SEEDS=$(or $(SEEDS),2000) $(BIN)/pytest -q --timeout 0 tests/simulation

test: ## Everything, on a real cluster too: one command from a fresh clone
	@$(PYTHON) hack/run_tests.py

soak: setup ## kill -9 200 times (SOAK_KILLS), then 20 minutes (SOAK_MINUTES) at half of peak: does anything grow?
	@$(BIN)/pytest -q -s --timeout 0 tests/soak

cluster: ## Start the test cluster (or take the given one) and load the images
	@$(CLUSTER) up
	@$(CLUSTER) images
	@$(CLUSTER) load
	@echo 'To talk to it:  eval "$$($(CLUSTER) env)"   and to stop it:  make cluster-down'

cluster-down: ## Stop the test cluster
	@$(CLUSTER) down

images: ## Build the images of operator, dispatcher, worker and the examples
	@$(CLUSTER) images

demo: setup ## The standard library through a local fleet of 1 to 8 workers: about a minute, no Kubernetes
	@$(BIN)/python hack/demo_local.py

demo-kubernetes: setup ## The standard library through a pool of pods, with a timeline of queue and replicas
	@$(BIN)/python hack/demo_kubernetes.py

picture: setup ## Run the demo again and draw the README's picture from what it recorded
	@$(BIN)/python hack/demo_local.py --record docs/images/fleet.json
	@$(BIN)/python hack/render_fleet.py

# JSON=folder keeps the figures as files there.
BENCH_OPTIONS = $(if $(JSON),--json $(JSON)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(QUICK),--quick)

bench: setup ## How fast the dispatcher is, beside its targets: about 10 minutes; QUICK=1, ROUNDS=n, JSON=folder
	@$(BIN)/python benchmarks/dispatcher.py $(BENCH_OPTIONS)

bench-peers: setup ## The same load through Celery, Dramatiq, Taskiq and NATS: about 30 minutes; the same options
	@$(BIN)/python benchmarks/peers.py $(BENCH_OPTIONS)

bench-cluster: setup ## From a submission to more pods, in milliseconds, on a real cluster
	@$(BIN)/python benchmarks/scale_up.py $(if $(JSON),--json $(JSON))

lock: setup ## Resolve the requirements again, ours and those of the benchmarks' peers (needs uv)
	@uv=$$(command -v uv || command -v $(BIN)/uv) || { echo "lock: install uv first: pip install uv"; exit 1; }; \
	$$uv pip compile --universal --generate-hashes --no-emit-index-url --no-header -q \
	  pyproject.toml --all-extras --group dev -o requirements.lock; \
	$$uv pip compile --universal --generate-hashes --no-emit-index-url --no-header -q --python-version 3.11 \
	  benchmarks/peers/requirements.in -o benchmarks/peers/requirements.txt

clean: ## Remove what is generated in the tree; the caches outside of it stay
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
