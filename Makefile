# Every target does its own set-up: freehold.onebox.install brings .venv and .venv-engine up to their lock files, and does
# nothing where a stamp says that they match.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv/bin
SETUP := PYTHONPATH=platform $(PYTHON) -m freehold.onebox.install
ONEBOX := PYTHONPATH=platform:. $(VENV)/python -m freehold.onebox
# Enough for settings to load; nothing is connected to.
DUMMY := SECRET_KEY=lint-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOPQRSTUVWXYZ \
	FREEHOLD_ENCRYPTION_KEYS=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE= \
	DATABASE_URL=postgresql://lint@127.0.0.1:1/lint DATABASE_POOL_SIZE=0 REDIS_URL=redis://127.0.0.1:1/0 ALLOWED_HOSTS=freehold.example \
	FREEHOLD_PUBLIC_URL=https://freehold.example FREEHOLD_GATEWAY_URL=https://api.freehold.example

# Tests with engines and faults want the machine to themselves.
ALONE := tests/e2e tests/faults

.PHONY: help up down clean native test lint bench soak
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

up: ## everything on this machine, with two real models; Ctrl-C stops it, DETACH=1 returns once both answer
	@$(SETUP) onebox engine
	@$(ONEBOX) up

down: ## stop everything, whoever started it; data is kept
	@if [ -x $(VENV)/python ]; then $(ONEBOX) down; else echo "Nothing is running."; fi

clean: ## stop everything, then remove .freehold and both environments
	@if [ -x $(VENV)/python ]; then $(ONEBOX) clean; fi
	@rm -rf .freehold .venv .venv-engine platform/freehold/gateway/_native .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

native: ## compile the gateway's hot path; takes gcc and Python's headers
	@$(SETUP) dev
	@PYTHONPATH=platform $(VENV)/python -m freehold.gateway.compile

test: ## everything but the soak tests; TESTS=… chooses
	@$(SETUP) dev engine
ifdef TESTS
	@$(VENV)/python -m pytest -m "not soak" $(TESTS)
else
	@$(VENV)/python -m pytest -m "not soak" --numprocesses logical --dist loadfile $(addprefix --ignore=,$(ALONE))
	@$(VENV)/python -m pytest -m "not soak" $(ALONE)
endif

lint: ## ruff, import contracts, mypy, migrations, deployment checks
	@$(SETUP) dev
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	PYTHONPATH=platform:. $(VENV)/lint-imports
	$(VENV)/mypy platform/freehold workers tests $(if $(wildcard benchmarks/*.py),benchmarks)
	$(DUMMY) DJANGO_SETTINGS_MODULE=freehold.config.settings.test $(VENV)/python manage.py makemigrations --check --dry-run
	$(DUMMY) DJANGO_SETTINGS_MODULE=freehold.config.settings.production \
		$(VENV)/python manage.py check --deploy --fail-level WARNING

bench: ## figures of DESIGN.md's kind, measured here
	@$(SETUP) dev engine
	@PYTHONPATH=platform $(VENV)/python -m freehold.gateway.compile
	@PYTHONPATH=platform:. $(VENV)/python -m benchmarks

soak: ## the long tests
	@$(SETUP) dev engine
	@$(VENV)/python -m pytest -m soak $(TESTS)
