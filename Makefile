# The one list of commands. Each installs what it needs; `make demo` and `make test` are all a newcomer types.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Programs of the machine the mesh stands on, and the Debian packages that bring them.
PROGRAMS := ip iptables-restore redis-server curl
PACKAGES := iproute2 iptables redis-server curl

.PHONY: help demo test lint format bench golden docs pins system clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/ —/'

demo: $(VENV)/installed system ## the bookstore through real Envoys on this machine: live table, Ctrl-C ends it
	$(BIN)/osm demo $(ARGS)

test: $(VENV)/installed system ## every test; those that need root say so when they are left out
	$(BIN)/pytest -m "not serial" -n auto --dist loadgroup --cov --cov-report= $(ARGS)
	$(BIN)/pytest -m serial --cov --cov-append --cov-report=term:skip-covered $(ARGS)

lint: $(VENV)/installed ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed ## rewrite files in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed ## synthetic proxies against the real server (200; ARGS='--proxies 1000 -o json')
	$(BIN)/python -m benchmarks.streams $(ARGS)

golden: $(VENV)/installed ## rewrite the golden files; review the difference like code
	UPDATE_GOLDEN=1 $(BIN)/pytest -q tests -m "not serial and not root and not envoy" $(ARGS)

docs: $(VENV)/installed ## rewrite the generated pages of docs/
	PYTHONPATH=. $(BIN)/python tests/architecture/generated_docs.py

system:
	@missing=""; for program in $(PROGRAMS); do \
	  PATH="$$PATH:/usr/sbin:/sbin" command -v $$program >/dev/null || missing="$$missing $$program"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing $(PACKAGES) (missing:$$missing)"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES); \
	else echo "missing:$$missing. Install them, e.g.: sudo apt-get install $(PACKAGES)" >&2; exit 1; fi

$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) --version). Set PYTHON=…" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "python3-venv is missing: sudo apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

pins: ## compile requirements.txt anew from pyproject.toml, with hashes (needs uv)
	uv pip compile --quiet --custom-compile-command "make pins" --universal --generate-hashes \
	  --all-extras --upgrade --python-version 3.11 -o requirements.txt pyproject.toml

clean: ## remove what the commands above made
	rm -rf $(VENV) .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info build dist
