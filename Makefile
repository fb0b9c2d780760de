# Everything runs in .venv, made from requirements.lock by hash; nothing is installed outside this folder.
# Another interpreter: make test PYTHON=python3.13

PYTHON ?= python3
SCENARIO ?= var-breach
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
INSTALLED := $(VENV)/installed-$(VERSION)

# The unpacked test servers come last: what is on PATH wins.
export RESPONDER_TEST_KUBECONFIG
# Where it is set, every process that a test starts compiles the whole program again, and each worker all tests.
export PYTHONDONTWRITEBYTECODE :=
export PATH := $(CURDIR)/$(BIN):$(PATH):$(CURDIR)/.servers/bin

# In the order that conftest.py gives: the longest first, so that no processor waits at the end for one file.
WORKERS := --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Against what, and when it fails: tests/mutation/__main__.py. The same order of mutants each time.
MUTANTS := PYTHONHASHSEED=0 $(RUN) tests.mutation --changed --seconds 45

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

.PHONY: help
help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

.PHONY: demo
demo: $(INSTALLED) ## a VaR breach on a small trading platform, answered before your eyes (under a minute)
	@$(BIN)/responder demo --scenario $(SCENARIO)

.PHONY: test
test: $(INSTALLED) ## every check, then every test, on real servers
	@# Two at once: mypy takes longer than all the others together, and one processor.
	@$(MAKE) --jobs 2 --output-sync=target types style layers rules collected
	@# Mutants that survive keep no test from running. Either makes it fail, and the tests have the last word.
	@export RESPONDER_MUTANTS=0; $(MUTANTS) || RESPONDER_MUTANTS=$$?; \
	$(RUN) pytest $(WORKERS); exit $$RESPONDER_MUTANTS

.PHONY: collected
collected: $(INSTALLED)
	@# What the workers would both have to do: the bytecode of all tests.
	@said=$$($(RUN) pytest --collect-only --quiet 2>&1) || { tail -n 40 <<<"$$said"; exit 1; }; echo "tests: collected"

.PHONY: test-kubernetes
test-kubernetes: $(INSTALLED) ## the Kubernetes actions on a real cluster: RESPONDER_TEST_KUBECONFIG=FILE
	@test -n "$${RESPONDER_TEST_KUBECONFIG:-}" || { \
		echo "test-kubernetes needs a cluster: make test-kubernetes RESPONDER_TEST_KUBECONFIG=FILE" >&2; exit 1; }
	@$(RUN) pytest tests/system/test_kubernetes_cluster.py tests/system/test_kubernetes_rights.py

.PHONY: coverage
coverage: servers $(INSTALLED) ## every test, and which lines none of them ran (takes half as long again)
	@$(RUN) pytest $(WORKERS) --cov --cov-report term

.PHONY: check
check: style types layers rules ## every check without the tests

.PHONY: style
style: $(INSTALLED) ## formatting and lint
	@$(RUN) ruff format --check --quiet . || { echo "run: make format" >&2; exit 1; }
	@$(RUN) ruff check --quiet .
	@echo "style: ok"

.PHONY: types
types: $(INSTALLED) ## mypy, strict
	@$(RUN) mypy

.PHONY: layers
layers: $(INSTALLED) ## imports point down the layers
	@said=$$($(BIN)/lint-imports 2>&1) || { echo "$$said"; exit 1; }; echo "layers: ok"

.PHONY: rules
rules: $(INSTALLED) servers ## runbooks, Prometheus rules with their tests, the Alertmanager configuration
	@for example in rules/*/_responder.example.yaml; do $(BIN)/responder --config $$example lint || exit 1; done
	@$(BIN)/responder --config responder.yaml lint
	@if ! { command -v promtool && command -v amtool; } >/dev/null; then \
		echo "rules: no promtool or amtool, so the Prometheus rules are not checked" >&2; exit 0; fi; \
	promtool check rules alertmanager/rules/*.yml; \
	promtool test rules alertmanager/tests/*.yml; \
	amtool check-config alertmanager/alertmanager.yml

.PHONY: reference
reference: $(INSTALLED) ## the documentation that is made: language, mistakes, outputs in the guides
	@$(RUN) tests.documentation

.PHONY: schema
schema: $(INSTALLED) ## the JSON Schemas in rules/schema, from the models
	@$(BIN)/responder schema --output rules/schema

# With CI set, a server that cannot be had fails here and in every test that needs it; else those tests are skipped.
.PHONY: servers
servers: $(INSTALLED) ## finds or unpacks Prometheus, Alertmanager, Redis and PostgreSQL for the tests
	@$(RUN) tests.provision || { test -z "$${CI:-}" || exit 1; \
		echo "test servers: the tests that need them are skipped" >&2; }

.PHONY: format
format: $(INSTALLED) ## formats and repairs what can be
	@$(RUN) ruff check --quiet --fix-only .
	@$(RUN) ruff format --quiet .

.PHONY: bench
bench: $(INSTALLED) ## the measurements of docs/performance.md; takes the machine for minutes
	@$(RUN) benchmarks

.PHONY: reliability
reliability: $(INSTALLED) ## the campaigns of docs/reliability.md, large: takes days; goes on where it was broken off
	@$(RUN) tests.campaigns --progress .reliability.jsonl

.PHONY: mutation
mutation: $(INSTALLED) ## small changes of the guards: does a test notice each? takes minutes
	@$(RUN) tests.mutation $(MODULES)

.PHONY: mutants
mutants: $(INSTALLED) ## small changes of the functions that have changed: does a test notice each? under a minute
	@$(MUTANTS)

.PHONY: pictures
pictures: $(INSTALLED) ## the pictures in docs/images, from real messages (needs Chromium)
	@$(RUN) tests.pictures

.PHONY: lock
lock: ## requirements.lock from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv on PATH or in $(VENV): $(BIN)/pip install uv" >&2; exit 1; }
	@uv pip compile pyproject.toml --group dev --universal --generate-hashes --python-version 3.11 \
		--no-header --no-annotate --no-strip-extras --quiet --output-file requirements.lock
	@echo "lock: $$(grep -c == requirements.lock) requirements"

.PHONY: clean
clean: ## removes what was made here, the virtual environment and the test servers too
	@rm -rf $(VENV) .servers build dist htmlcov .coverage .coverage.* .hypothesis .reliability.jsonl
	@rm -rf .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp names the interpreter: asked for another one, the environment is made anew. Older than the lock: installed again.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "responder needs Python 3.11 or later, $(PYTHON) is $(or $(VERSION),not there);" \
		"name another: make $(MAKECMDGOALS) PYTHON=python3.13" >&2; exit 1; }
	@test "$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$(VERSION)" || \
		$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo "no virtual environment could be made; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "installing what requirements.lock names into $(VENV)"
	@$(RUN) pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(RUN) pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
