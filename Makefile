# Everything a newcomer or CI needs. `make demo` and `make test` set up what they need.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TESTS ?= tests
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos fuzz check format lint types imports security docs lock clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready ## Make .venv from the hash-pinned requirements

$(VENV)/.ready: requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Phoenix needs Python 3.11 or newer; point PYTHON at one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up .venv (once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if command -v uv >/dev/null 2>&1 && uv pip install -q --python $(BIN)/python --require-hashes -r requirements/dev.txt 2>/dev/null; then :; \
		else $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt; fi
	@$(BIN)/python -c "import pathlib, site; pathlib.Path(site.getsitepackages()[0], 'phoenix-checkout.pth').write_text(str(pathlib.Path.cwd()) + '\n')"
	@printf '#!%s\nfrom phoenix.cli.app import main\n\nmain()\n' "$(CURDIR)/$(BIN)/python" > $(BIN)/phoenix && chmod +x $(BIN)/phoenix
	@touch $@

demo: setup ## Run the bundled project from requirement to delivered branch; no key, no server
	@$(BIN)/phoenix demo

test: setup ## Run all tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)

chaos: setup ## Kill workers and databases at thousands of points, and see that nothing is lost (half an hour)
	@$(BIN)/python -m tests.chaos.run

fuzz: setup ## Send the HTTP service 20,000 generated requests and more (half an hour)
	@$(BIN)/python benchmarks/api_fuzz.py

check: setup lint types imports security docs ## The gate: format, lint, types, imports, security, docs

format: setup ## Format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: setup
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: setup
	@$(BIN)/mypy

imports: setup
	@$(BIN)/lint-imports

security: setup
	@$(BIN)/bandit -q -c pyproject.toml -r phoenix

docs: setup ## Build the documentation, strictly
	@NO_MKDOCS_2_WARNING=true DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build -q --strict

lock: ## Lock the dependencies and export the requirements (needs Poetry 2 with its export plugin)
	poetry lock
	poetry export -o requirements/runtime.txt
	poetry export --with dev,docs -E anthropic -E aws -E google -E kubernetes -E sentry -E vault -o requirements/dev.txt
	# google-genai wants google-auth[requests]; the export leaves the extra out, and pip then calls it unpinned.
	sed -i.bak 's/^google-auth==/google-auth[requests]==/' requirements/dev.txt && rm requirements/dev.txt.bak

clean: ## Remove what was made
	rm -rf $(VENV) site .mypy_cache .ruff_cache .hypothesis
