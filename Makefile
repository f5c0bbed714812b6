# The verbs of this repository. `make run` and `make test` are all that a fresh machine needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Unit tests compute for less than half of their time, and each worker imports all of them first (4 s). With two workers
# more than cores, both cores are busy to the end. Tests of real processes wait more than they compute: with five of them
# for two cores, a third of the processors' time was idle. Browsers compute: one of them for each core spreads their work
# over the whole run.
CORES := $(shell getconf _NPROCESSORS_ONLN)
COMPUTING := $(shell expr $(CORES) + 2)
WORKERS := $(shell expr 2 \* $(CORES))
WAITING := $(shell expr 7 \* $(CORES) / 2)
BROWSERS := $(CORES)
# A file is one worker's, and the files that took longest in a recorded run begin first (tests/file_times.json). They wait
# for timers, so every second worker of fast tests begins with the shortest ones.
FILES := --dist loadfile --no-loadscope-reorder
# What runs the real program. `make pool` runs all of it together, so that no suite waits for the last file of another.
POOL ?= tests/integration tests/conformance tests/browser tests/fuzz
# At most so many of the pool's workers run browsers (tests/support/pool.py).
export TESTS_BROWSERS := $(BROWSERS)
SLOWEST := $(if $(CI),--durations=50 --durations-min=1)

VENV := .venv
BIN := $(VENV)/bin
# Our own commands see exactly the packages that the lock files name.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH PYTHONHOME
# Without its bytecode each process of a test compiles the program anew, a third of its start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test setup check lint types fast format web-types pool integration conformance browser fuzz nightly test-times judges screenshots vendor lock wheel deb docs release image deploy undeploy clean

help: ## the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: $(VENV)/.run ## set up and start the gateway with SQLite and local disk under var/
	@exec $(BIN)/millrace serve --welcome

test: ## set up everything that the tests need, and run them all
	@exec tools/suites check pool

setup: $(VENV)/.dev $(VENV)/.web ## what developing needs: virtual environment with the development tools

check: $(VENV)/.dev $(VENV)/.web ## format, lint, types, imports, fast tests
	@$(MAKE) --no-print-directory --jobs lint types web-types fast

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

types: $(VENV)/.dev
	$(BIN)/mypy

fast: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n $(COMPUTING) $(FILES) $(SLOWEST) -m "not nightly" tests/unit tests/architecture

web-types: $(VENV)/.web ## the types of the pages' scripts
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/web/node_modules/.bin/tsc -p tools/web/jsconfig.json

format: $(VENV)/.dev ## mend what the formatter and linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

pool: export FUZZ_EXAMPLES ?= 100
pool: $(VENV)/.dev $(VENV)/.web ## everything that is no fast test: the four suites below, together (POOL=…)
	$(BIN)/python -m pytest -q -n $(WAITING) $(FILES) $(SLOWEST) -m "not nightly" $(POOL)

integration: $(VENV)/.dev ## the real program, its workers and stores against peers, faults and doubles
	$(BIN)/python -m pytest -q -n $(WAITING) $(FILES) $(SLOWEST) -m "not nightly" tests/integration

conformance: $(VENV)/.dev ## real clients against the real program
	$(BIN)/python -m pytest -q -n $(WAITING) $(FILES) $(SLOWEST) -m "not nightly" tests/conformance

browser: $(VENV)/.dev $(VENV)/.web ## the pages in Chromium
	$(BIN)/python -m pytest -q -n $(BROWSERS) $(FILES) $(SLOWEST) -m "not nightly" tests/browser

fuzz: $(VENV)/.dev ## every parser against random and mutated bytes (FUZZ_EXAMPLES=…)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(SLOWEST) tests/fuzz

nightly: $(VENV)/.dev $(VENV)/.web ## soaks, faults on paths that other tests prove, and more examples
	$(BIN)/python -m pytest -q -n $(WAITING) $(FILES) $(SLOWEST) -m nightly tests/unit tests/integration tests/conformance tests/browser
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -q -n $(COMPUTING) $(FILES) $(SLOWEST) -m hypothesis tests/unit
	$(MAKE) --no-print-directory fuzz FUZZ_EXAMPLES=$(or $(FUZZ_EXAMPLES),1000)

test-times: $(VENV)/.dev ## keep the measured times of `make test` for the order and the budgets of test files
	$(BIN)/python -m tests.support.file_times

judges: $(VENV)/.dev ## other projects' parsers and players, and the standards' rules, over streams of every kind (JUDGES="--kinds hevc")
	@tools/install-judges
	@exec $(BIN)/python -m judges $(JUDGES)

-include bench/targets.mk

screenshots: $(VENV)/.web ## take the pictures of the documentation again
	$(BIN)/python -m tools.screenshots

vendor: $(VENV)/.dev ## fetch what is vendored for the pages again and check the hashes
	$(BIN)/python tools/vendor.py

lock: ## resolve the dependencies again (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --extra aws --extra moq --group build pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --extra aws --extra moq --group build --group dev pyproject.toml -o requirements-dev.lock
	echo ministack==1.5.33 | uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header - -o tests/support/ministack.lock

wheel: $(VENV)/.dev ## build/dist/*.whl
	$(BIN)/python -m pip wheel -q --no-deps -w build/dist .

release: ## check everything for a release, and build it in build/dist
	@exec tools/release

deb: $(VENV)/.dev ## build/dist/*.deb for this machine's Debian release
	@tools/build-deb

docs: $(VENV)/.run ## the documentation as a site, in build/site
	@tools/build-docs

image: ## the container image, millrace
	docker build --tag millrace .

deploy: ## put it up on AWS, or update it (STACK=millrace PARAMETERS=file; docs/deploy-aws.md)
	@exec python3 tools/deploy.py up

undeploy: ## take down what runs on AWS; channels and media stay (DATA=delete: channels go too)
	@exec python3 tools/deploy.py down

clean: ## remove what was built (not var/)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@tools/make-venv $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "installing Millrace into $(VENV) (once) …"
	@$(BIN)/python -m pip install -q --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	@echo "installing the development tools …"
	@$(BIN)/python -m pip install -q --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/.web: tools/web/package-lock.json $(VENV)/.dev
	@echo "installing what checks the pages …"
	@cd tools/web && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --ignore-scripts --silent
	@touch $@
