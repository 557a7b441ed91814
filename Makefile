# Every target makes .venv first when it is missing. DEVICE=core|cpu|gpu overrides what is detected.
DEVICE ?= auto
PYTHON ?=
RECIPE ?= recipes/demo_cpu.yaml
JOBS ?= 2
BIN := .venv/bin
BOOT := $(or $(PYTHON),python3)

# tests/conftest.py says which tests share a process, and puts the longest first.
PARALLEL := -n $(JOBS) --dist loadscope --no-loadscope-reorder

.PHONY: help env demo test fast check format docs lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

env: ## make .venv from the pinned lock (instant when it is complete)
	@$(BOOT) docker/bootstrap.py --device $(DEVICE) --python "$(PYTHON)"

demo: env ## train and judge an agent on this machine; report in runs/demo
	$(BIN)/mtsql train $(RECIPE)

test: env ## the whole test suite, in JOBS processes
	$(BIN)/python -m pytest $(PARALLEL) --durations=10

fast: env ## the tests without Ray and without the slow ones, in JOBS processes
	$(BIN)/python -m pytest $(PARALLEL) -m "not ray and not slow"

check: env ## style, layout, spelling and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell
	$(BIN)/pyright

format: env ## let ruff fix what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: env ## write the recipe keys into recipes/README.md
	PYTHONPATH=.:tests $(BIN)/python -m helpers.recipe_keys

lock: ## resolve the dependencies again; writes docker/requirements-*.lock
	@$(BOOT) docker/bootstrap.py --lock --python "$(PYTHON)"

clean: ## remove caches and .venv; runs/ stays
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './runs/*' -prune -exec rm -rf {} +
