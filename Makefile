PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint format types contract check smells bench docs wheel clean
.DEFAULT_GOAL := help

help:  ## what there is to make
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/ready  ## fit the thermometer and say where the report is
	$(BIN)/gradfit fit examples/thermometer.csv "t_c = w*t_u + b" --report thermometer.html --force

test: $(VENV)/ready  ## run every test
	$(BIN)/python -m pytest

lint: $(VENV)/ready  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/ready  ## let ruff write the format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/ready  ## basedpyright, strict on src
	$(BIN)/basedpyright

contract: $(VENV)/ready  ## an import only points down
	$(BIN)/lint-imports

smells: $(VENV)/ready  ## names, junk drawers and noise that the style refuses
	@! grep -rnE "^class \w*(Manager|Factory|Helper|Handler|Orchestrator|Registry|Processor|Facade|Config)\b" src
	@! find src tests -name 'util*' -o -name 'helper*' -o -name 'common*' -o -name 'misc*' | grep .
	@! grep -rnE "\*\*(kwargs|kws|opts)" src
	@! grep -rnE "# *(NEW|[Ll]egacy|Phase [0-9]|TODO|was:)" src

check: lint types contract smells test  ## everything that CI runs

bench: $(VENV)/ready  ## measure speed against peers, write docs/benchmarks.md (SECTIONS="many training": these)
	$(BIN)/python benchmarks/run.py $(SECTIONS)

docs: $(VENV)/ready  ## write the pages that are made from the code
	$(BIN)/python docs/make_models.py
	$(BIN)/python docs/make_mechanics.py

wheel: $(VENV)/ready  ## build the wheel
	$(BIN)/python -m build --wheel --outdir dist

clean:  ## remove what was made
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .hypothesis thermometer.html
