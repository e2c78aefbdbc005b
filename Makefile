# Everything a person does with Coatcheck on one machine. `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo test soak unit lint fmt bench chaos lock clean rabbitmq chromium

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PREPARE := local_stack/prepare.sh
PYTEST := $(BIN)/python -m pytest
# A file's tests share what they started, so a file stays on one worker; tests/conftest.py orders the files.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
UV_COMPILE = .cache/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'Settings: PORT=8000 LOCAL_DIR=.local, and AMQP_URI, MONGODB_URI, SMTP_URI for servers of your own.'

run: $(VENV)/run.stamp rabbitmq ## start everything on this machine; Ctrl-C stops it
	@exec $(BIN)/python -m local_stack

demo: $(VENV)/run.stamp rabbitmq ## submit real work to the running stack (or one of its own) and show it
	@exec $(BIN)/python -m examples.demo

test: $(VENV)/dev.stamp rabbitmq chromium ## every test, on servers it starts itself
	$(PYTEST) $(PARALLEL) tests

soak: $(VENV)/dev.stamp rabbitmq ## a job of an hour on a broker without patience
	$(PYTEST) tests/soak

unit: $(VENV)/dev.stamp ## the tests without any server
	$(PYTEST) tests/unit

lint: $(VENV)/dev.stamp ## ruff, mypy, and the documentation built strictly
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mkdocs build --strict --quiet

fmt: $(VENV)/dev.stamp ## format the code and fix what can be fixed by itself
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

bench: $(VENV)/dev.stamp rabbitmq ## measure Coatcheck against Celery on this machine
	@exec $(BIN)/python -m bench

chaos: $(VENV)/dev.stamp rabbitmq ## kill -9 at random under load, then check every promise: SEEDS=10 SECONDS=300 SEED=…
	@exec $(BIN)/python -m tests.chaos --seeds $(or $(SEEDS),10) --seconds $(or $(SECONDS),300) \
	    $(if $(SEED),--seed $(SEED)) --table .cache/chaos.md

lock: .cache/uv/bin/uv ## pin the dependencies of pyproject.toml anew
	$(UV_COMPILE) --group dev --output-file constraints.txt
	for group in run gateway compute results; do \
	    $(UV_COMPILE) --group $$group --constraints constraints.txt --output-file requirements/$$group.txt || exit; \
	done

clean: ## remove what was built; the data in .local/ stays
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist site *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PREPARE) venv $(VENV)

$(VENV)/run.stamp: requirements/run.txt pyproject.toml | $(BIN)/python
	@echo 'Installing what the services need into $(VENV) (once)'
	$(PIP) install --require-hashes -r requirements/run.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: constraints.txt pyproject.toml | $(BIN)/python
	@echo 'Installing what the services, the tests and the linters need into $(VENV) (once)'
	$(PIP) install --require-hashes -r constraints.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/run.stamp

.cache/uv/bin/uv: | $(BIN)/python
	$(BIN)/python -m venv .cache/uv
	.cache/uv/bin/python -m pip --disable-pip-version-check install --quiet uv

rabbitmq:
	@test -n "$$AMQP_URI" || $(PREPARE) rabbitmq

chromium:
	@$(PREPARE) chromium
