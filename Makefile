# densefit: set-up and the everyday commands. Needs a Debian-like machine with python3.11+ and make.
#   make demo            the first run: set up, then turn the sample rig's videos into an animated head
#   make test | lint     what .ci/run runs
# TORCH chooses another torch (make TORCH='torch>=2.6'); TORCH_INDEX another index for it alone, e.g.
# make TORCH_INDEX=https://download.pytorch.org/whl/cpu (without it, pip's own configuration decides).
PYTHON      ?= python3
VENV        ?= .venv
TORCH       ?= torch==2.13.0
TORCH_INDEX ?=
OUT         ?= out
BENCHMARKS  ?= fit synth predict trio calibrate

BIN   := $(VENV)/bin
STAMP := $(VENV)/.densefit-installed

.PHONY: setup demo test lint format bench stress clean

setup: $(STAMP)

# The stamp makes later runs quick; it is remade when the dependencies change.
$(STAMP): pyproject.toml .ci/make_venv.sh .ci/system_libraries.sh .ci/node_tools.sh
	.ci/make_venv.sh $(PYTHON) $(VENV)
	.ci/system_libraries.sh
	$(BIN)/python -m pip install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	$(BIN)/python -m pip install -e ".[dev]"
	.ci/node_tools.sh $(VENV)
	touch $@

demo: $(STAMP)
	$(BIN)/densefit demo -o $(OUT)/demo

test: $(STAMP)
	$(BIN)/python -m pytest -q

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Each prints a table and leaves its figures as JSON.
bench: $(STAMP)
	mkdir -p $(OUT)/bench
	for name in $(BENCHMARKS); do \
	    $(BIN)/python benchmarks/$$name.py --json $(OUT)/bench/$$name.json || exit 1; \
	done

# The slow, rough tests: many damaged and odd inputs, interrupted runs.
stress: $(STAMP)
	$(BIN)/python -m pytest -q --stress

clean:
	rm -rf $(OUT) build dist .mypy_cache .ruff_cache .pytest_cache
