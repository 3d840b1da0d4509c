# One command each, the same here and in CI. PYTHON chooses the interpreter that the environment is made from.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO ?= demo
SECONDS ?= 600
ROUNDS ?= 5
WEIGHTS := $(wildcard weights/mococxr_weights/encoder.safetensors)
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 POLARS_MAX_THREADS=1

.PHONY: help setup check format test slow demo docs site bench fuzz real constraints clean

help: ## what can be made
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY) ## the environment in .venv, made again when pyproject.toml or the published weights change
$(READY): pyproject.toml $(WEIGHTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mococxr needs Python 3.11 or later: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,imagenet-offline,trackers]' $(if $(WEIGHTS),./weights)
	@touch $(READY)

check: setup ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup ## put the code into the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup ## the tests, without those marked slow
	$(ONE_THREAD) $(BIN)/pytest -n 2 --dist loadfile -m "not slow"

slow: setup ## kill and resume, several processes, real images in short
	$(ONE_THREAD) $(BIN)/pytest -n 2 --dist loadfile -m slow

demo: setup ## the whole way on synthetic images, from nothing to a report
	$(BIN)/mococxr demo --out $(DEMO)

docs: setup ## what is made from the code: docs/paper.md, docs/contract.md's tables, src/mococxr/__init__.pyi
	$(BIN)/python docs/make_paper.py
	$(BIN)/python docs/make_stubs.py
	$(BIN)/python docs/make_tables.py

site: setup ## the pages as a site in site/: their blocks are run, links and pages checked (10 minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	$(BIN)/python docs/run_blocks.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	$(BIN)/python docs/check_site.py

bench: setup ## speed beside what others use, into docs/benchmarks.md (ROUNDS=5)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python bench/all.py --rounds $(ROUNDS)

fuzz: setup ## fuzzing of the readers of images (guided by coverage where atheris can be had) and of tables (SECONDS=600)
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	$(BIN)/python fuzz/images.py $(SECONDS)
	$(BIN)/python fuzz/tables.py $(SECONDS)

real: setup ## the main job on real images (MOCOCXR_DATA)
	$(BIN)/python bench/real_images.py

constraints: setup ## constraints.txt: the versions of what the package needs, as they are in .venv
	$(BIN)/python docs/make_constraints.py

clean: ## remove the environment and the demo
	rm -rf .venv demo site
