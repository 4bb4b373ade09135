# Plain make and plain pip. `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SENTIMENT := build/sentiment.edge
# Modules beside them are parts of these.
BENCHMARKS := $(addprefix benchmarks/,device_install.py engines.py guard_overhead.py int8_candidates.py runtime_overhead.py \
	stream.py)
# Where pip would take the CUDA build of torch, TORCH_INDEX names an index of CPU wheels to take it from instead.
TORCH_INDEX ?=
TORCH_FLAGS := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX),)

.DEFAULT_GOAL := help
.PHONY: help setup compress test test-all lint bench clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with everything that compressing and testing need

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("edgekit needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Give another one: make setup PYTHON=python3.11")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'The venv module is missing. On Debian: apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH_FLAGS) -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet $(TORCH_FLAGS) -c constraints.txt -e '.[compress,optimum,neural-compressor,sentiment,lite0,dev]'
	@touch $@

compress: $(STAMP) ## Compress the built-in sentiment model to build/sentiment.edge (at most 15 minutes on 2 cores)
	$(BIN)/edgekit compress sentiment --overwrite -o $(SENTIMENT)
	@echo
	@echo 'Run it:   $(BIN)/edgekit run $(SENTIMENT) "a charming, funny film"'
	@echo 'Report:   $(SENTIMENT:.edge=.report.html)'

test: $(STAMP) ## Run the tests that take seconds
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile --no-loadscope-reorder

test-all: $(STAMP) ## Run every test, the slow ones too
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: $(STAMP) ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## Run the benchmarks (edgekit beside its peers, in one run)
	@for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean: ## Remove what was built (never the caches of stages or downloads)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
