# `make demo` and `make test` need Python 3.11 or newer and make, and nothing else.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TYPES := build/types
DOCS := build/docs
PAGES := build/pages
BOUNDS := $(CURDIR)/build/bounds

# The comparison of `make demo`; it ends within five minutes on two cores.
DEMO_WORKLOAD ?= paper/resnet_conv4
DEMO_ACCELERATOR ?= accel_b
DEMO_AGENTS ?= random,gamma,ppo,maskable-ppo
DEMO_SAMPLES ?= 5000
DEMO_SEEDS ?= 3
DEMO_FOLDER ?= runs/demo

# The tests of `make test-bounds`; all of them when left out.
BOUNDS_TESTS ?=

# The lowest versions: their own environment and cache, and the tests that meet every library.
LOWEST := build/lowest
LOWEST_TESTS ?= tests/cost/dense/test_cost_by_hand.py tests/envs/test_environments.py tests/adapters \
  tests/agents/learned/sb3

# loadgroup keeps tests that share a costly fixture on one worker.
PYTEST_ARGUMENTS ?= -n 2 --dist loadgroup

# How long `make fuzz` and `make crash-test` take, and how many processes the latter kills at most.
MINUTES ?= 10
KILLS ?= 100
SEED ?= 0

.DEFAULT_GOAL := help
.PHONY: help install browser demo test test-bounds test-lowest fuzz crash-test check lint types docs gif format bench clean

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

install: $(STAMP)  ## Create .venv and install mapgym, its extras and the development tools

$(STAMP): pyproject.toml setup.py constraints.txt
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "mapgym needs Python 3.11 or newer; install it, or name one: make install PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	@echo "Installing into $(VENV); the first time takes some minutes."
	@test -x $(BIN)/pip || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation \
	  -e '.[all,dev]'
	@touch $@

# The tests of pages are skipped, with a word, where there is none.
browser:  ## Install Chromium and its driver for the tests of pages (Debian and Ubuntu; needs root)
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
	  apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium chromium-driver >/dev/null; }

demo: install  ## Compare learned and classical mappers on one convolution
	$(BIN)/mapgym compare --agents $(DEMO_AGENTS) --workload $(DEMO_WORKLOAD) --accelerator $(DEMO_ACCELERATOR) \
	  --samples $(DEMO_SAMPLES) --seeds $(DEMO_SEEDS) -o $(DEMO_FOLDER)

test: install  ## Run the tests
	$(BIN)/python -m pytest $(PYTEST_ARGUMENTS)

# Numba then raises IndexError where a kernel would read or write outside of an array, and prints the index and the size
# of the axis. The cache is one of its own, so that checked code never mixes with the ordinary one.
test-bounds: install  ## Run the tests with kernels that check every index
	NUMBA_BOUNDSCHECK=1 NUMBA_FULL_TRACEBACKS=1 NUMBA_CACHE_DIR=$(BOUNDS) \
	  $(BIN)/python -m pytest $(PYTEST_ARGUMENTS) $(BOUNDS_TESTS)

# Its own interpreter environment, so that .venv stays as it is.
test-lowest:  ## Run tests with the lowest versions that pyproject.toml allows
	@test -x $(LOWEST)/bin/pip || "$(PYTHON)" -m venv $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lowest.txt \
	  -e '.[all]' hypothesis pytest pytest-xdist
	NUMBA_CACHE_DIR=$(CURDIR)/$(LOWEST)/cache $(LOWEST)/bin/python -m pytest $(PYTEST_ARGUMENTS) $(LOWEST_TESTS)

fuzz: install  ## Try hostile files, command lines, arrays and actions for so many MINUTES
	$(BIN)/python tests/fuzz/long_run.py $(MINUTES)

crash-test: install  ## Kill every long command at random moments; KILLS=200 MINUTES=60 for more
	$(BIN)/python tests/crash/crash_harness.py --kills $(KILLS) --minutes $(MINUTES) --seed $(SEED)

check: lint types docs  ## Run the linter, the format check and the type checker, and build the documentation

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The type checker finds packages by folder, so it is shown the layout that an installation has: what it reports in
# mapgym/agents/ is in agents/.
types: install
	@rm -rf $(TYPES)/mapgym && mkdir -p $(TYPES)/mapgym
	@cd $(TYPES)/mapgym && ln -s ../../../mapgym/* ../../../agents ../../../envs_config .
	cd $(TYPES) && ../../$(BIN)/mypy --config-file ../../pyproject.toml

# Always from scratch, because a page that is up to date would not repeat its warnings.
docs: install  ## Build the site of the documentation in build/docs; any warning is an error
	@rm -rf $(DOCS)
	@$(BIN)/python docs/site/pages.py $(PAGES)
	@$(BIN)/sphinx-build --quiet --fail-on-warning --fresh-env --doctree-dir $(PAGES)/.doctrees \
	  --conf-dir docs/site $(PAGES) $(DOCS)

gif: install  ## Draw the episode that docs/environments.md shows
	$(BIN)/python examples/episode_gif.py docs/images/episode.gif

format: install  ## Format the code and mend what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install  ## Measure the speed of the cost model, the environments and the agents
	$(BIN)/mapgym bench cost
	$(BIN)/mapgym bench env
	$(BIN)/mapgym bench agents

clean:  ## Remove build products and caches (not .venv, not runs/)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find mapgym agents envs_config docs examples tests -name __pycache__ -type d -prune -exec rm -rf {} +
