# How things are done here. Each target does all of its own set-up and is safe to repeat; `make` alone lists them.

PYTHON ?= python3
# Only for comparing the feature engine with others, of which one needs a Python newer than 3.11.
PYTHON312 ?= $(shell for one in python3.12 python3.13 $(HOME)/.pyenv/versions/3.1[23].*/bin/python; do \
  $$one -c '' 2>/dev/null && echo $$one && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt
MANIFESTS := shared/pyproject.toml client/pyproject.toml server/pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo demo-deployed test lint drill bench bench-radiomics-env bench-radiomics bench-oracles bench-statistics docs clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | awk -F'|' '{printf "  make %-20s %s\n", $$1, $$2}'

demo: $(VENV)/installed  ## six SYNTHETIC hospitals, from images to a validated model and its report
	$(BIN)/fedloupe demo

demo-deployed: $(VENV)/installed  ## the same study through real Flower processes over TLS on this machine
	$(BIN)/fedloupe demo --deployed

test: $(VENV)/installed-dev  ## every test, with coverage; the real data are found by FEDLOUPE_DATA
	$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST_ARGS)

lint: $(VENV)/installed-dev  ## ruff, formatting and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy shared/src client/src server/src

drill: $(VENV)/installed-dev  ## five SYNTHETIC hospitals, 60 faults at random moments, the same weights? as root, a quarter of an hour
	$(BIN)/python -m tests.drill $(DRILL_ARGS)

bench: $(VENV)/installed-dev  ## every benchmark in benchmarks/
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

bench-radiomics-env: $(VENV)-oracles/installed  ## PyRadiomics, Z-Rad and pictologics, for comparison only; needs Python 3.12 and a C compiler

bench-radiomics: $(VENV)/installed-dev  ## speed and memory of the feature engine against the engines of bench-radiomics-env
	$(BIN)/python benchmarks/radiomics_speed.py

bench-oracles: $(VENV)/installed-dev $(VENV)-oracles/installed  ## our features against Z-Rad and pictologics on real MRI
	$(BIN)/python benchmarks/oracles.py

bench-statistics: $(VENV)/installed-dev  ## how often intervals hold the truth: the tables of docs/statistics.md
	$(BIN)/python benchmarks/intervals.py

docs: $(VENV)/installed  ## write docs/errors.md again from the error classes
	$(BIN)/python docs/generate_errors.py

clean:  ## remove .venv and .venv-oracles, caches and the demo's folder; runs/ stays
	@[ ! -d demo ] || chmod -R u+w demo  # the couriers' Flower homes in it are read-only
	rm -rf $(VENV) $(VENV)-oracles demo .coverage .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: installation runs again only when a manifest changed or an earlier one did not finish. The pinned pip
# comes first: the one that Python 3.11 brings misreads some requirements.
$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "FedLoupe needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing)." >&2; \
	    echo "Install one, or name it: make PYTHON=python3.12 demo" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Making .venv failed: on Debian and Ubuntu, install the package python3-venv." >&2; exit 1; }
	@touch $@

$(VENV)/installed: $(MANIFESTS) | $(VENV)/made
	@echo "installing FedLoupe into $(VENV): some minutes the first time"
	$(PIP) pip
	$(PIP) -e shared -e 'client[courier]' -e 'server[simulation,pdf]'
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)-oracles/installed: benchmarks/requirements-oracles.txt
	@[ -n "$(PYTHON312)" ] || { echo "pictologics needs Python 3.12 or 3.13: name it with make PYTHON312=..." >&2; exit 1; }
	[ -x $(VENV)-oracles/bin/python ] || $(PYTHON312) -m venv $(VENV)-oracles
	$(VENV)-oracles/bin/python -m pip install --disable-pip-version-check --quiet --no-deps -r $<
	@touch $@
