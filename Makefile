# The one list of commands. Each installs what it needs; `make demo` and `make test` are all a newcomer types.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# What the machine must have, as program-or-file:Debian-package.
NEEDS := ip:iproute2 iptables-restore:iptables redis-server:redis-server curl:curl nginx:nginx-light
# Tests against a real API server are asked for by this variable.
ifneq ($(KUBEBUILDER_ASSETS),)
NEEDS += etcd:etcd-server kubectl:kubernetes-client prometheus:prometheus
endif
NODE_NEEDS := etcd:etcd-server kubectl:kubernetes-client containerd:containerd runc:runc \
  /usr/lib/cni/host-local:containernetworking-plugins conntrack:conntrack ipset:ipset socat:socat \
  iptables:iptables openssl:openssl xz:xz-utils mmdebstrap:mmdebstrap gcc:gcc /usr/include/stdio.h:libc6-dev
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
COMMIT := $(shell git rev-parse --short HEAD 2>/dev/null)
COMMITTED := $(shell git show -s --format=%cI 2>/dev/null)
IMAGE ?= docker.io/openservicemesh/osm:$(VERSION)

.PHONY: help demo test lint format bench bench-injection golden docs image e2e-node pins system node-system clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/ —/'

demo: $(VENV)/installed system ## the bookstore through real Envoys on this machine: live table, Ctrl-C ends it
	$(BIN)/osm demo $(ARGS)

test: $(VENV)/installed system ## every test; those that need root say so when they are left out
	$(BIN)/pytest -m "not serial and not node" -n auto --dist loadgroup --cov --cov-report= $(ARGS)
	$(BIN)/pytest -m "serial and not node" --cov --cov-append --cov-report=term:skip-covered $(ARGS)

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

bench-injection: $(VENV)/installed system ## Pods injected through a real API server (KUBEBUILDER_ASSETS)
	$(BIN)/python -m benchmarks.injection $(ARGS)

golden: $(VENV)/installed ## rewrite the golden files; review the difference like code
	UPDATE_GOLDEN=1 $(BIN)/pytest -q tests -m "not serial and not root and not envoy" $(ARGS)

docs: $(VENV)/installed ## rewrite the generated pages of docs/
	PYTHONPATH=. $(BIN)/python tests/architecture/generated_docs.py

image: $(VENV)/installed ## the container image: without an engine where K8S_NODE_TOOLS is set, else by docker
	@if [ -n "$$K8S_NODE_TOOLS" ]; then \
	  $(BIN)/python image/rootfs.py build/image && "$$K8S_NODE_TOOLS/make-image.sh" from $(IMAGE) \
	    --copy build/image/opt/osm:/opt/osm --copy build/image/usr/share/osm:/usr/share/osm \
	    --copy build/image/usr/local/bin/osm:/usr/local/bin/osm:755 --entrypoint osm --user 1000:3000 \
	    --env OSM_GIT_COMMIT=$(COMMIT) --env OSM_BUILD_DATE=$(COMMITTED); \
	else docker build --build-arg GIT_COMMIT=$(COMMIT) --build-arg BUILD_DATE=$(COMMITTED) -t $(IMAGE) .; fi

e2e-node: $(VENV)/installed node-system ## the mesh on a real Kubernetes node (K8S_NODE_TOOLS); needs root, at most 8 minutes
	$(BIN)/pytest -m node tests/e2e/node $(ARGS)

node-system: NEEDS := $(NODE_NEEDS)
system node-system:
	@missing=""; for need in $(NEEDS); do what=$${need%%:*}; \
	  PATH="$$PATH:/usr/sbin:/sbin" command -v "$$what" >/dev/null || test -e "$$what" || missing="$$missing $${need##*:}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then echo "installing$$missing"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	else echo "needed here: sudo apt-get install$$missing" >&2; exit 1; fi

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
	  --all-extras --no-strip-extras --upgrade --python-version 3.11 -o requirements.txt pyproject.toml

clean: ## remove what the commands above made
	rm -rf $(VENV) .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info build dist
