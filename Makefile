# Every verb creates .venv and installs what it needs; only Python 3.11+ with pip is asked for.
PYTHON ?= python3
PORT ?= 8000
ENGINE ?= local
DATASET ?=
ONLY ?=
MODEL ?= constant
BIN := .venv/bin
DATASETS := examples/madewithml/madewithml/datasets
PROMISES := examples/madewithml/promises.yaml
CALIBRATE = $(BIN)/salver calibrate madewithml.service:service --config $(PROMISES) \
	--on '$(DATASETS)/holdout.csv' --train '$(DATASETS)/train.csv' \
	--against '$(DATASETS)/junk.csv' --against '$(DATASETS)/neighbours.csv'
EXTRAS := torch,pandas,ray,sklearn,lightgbm,catboost,onnx,jax,langchain,pyfunc,optimize,calibrate
READY := .venv/.ready

BENCH_READY := .venv/.bench-ready

.PHONY: demo serve train evaluate optimize calibrate test test-cluster check format bench profile clean

demo: $(READY)  ## Walk the whole Made With ML lesson: train, choose, predict offline, serve, query
	$(BIN)/python -m madewithml.demo

serve: $(READY)  ## Serve the best run of the example on PORT (ENGINE=ray: on Ray), training and calibrating first if needed
	$(BIN)/python -m madewithml.train --if-missing
	$(CALIBRATE) --if-missing
	$(BIN)/salver serve madewithml.service:service --port $(PORT) --engine $(ENGINE) --config $(PROMISES)

train: $(READY)  ## Train the example (on DATASET=path); ends with one JSON object on stdout
	@$(BIN)/python -m madewithml.train $(if $(DATASET),--dataset '$(DATASET)')

evaluate: $(READY)  ## Evaluate the best run (on DATASET=path); ends with one JSON object on stdout
	@$(BIN)/python -m madewithml.evaluate $(if $(DATASET),--dataset '$(DATASET)')

optimize: $(READY)  ## Make the best run of the example faster, if its answers stay the same; some 4 minutes
	$(BIN)/python -m madewithml.train --if-missing
	$(CALIBRATE) --if-missing
	$(BIN)/salver optimize madewithml.service:service --config $(PROMISES) --on '$(DATASETS)/holdout.csv' --calibrate-on '$(DATASETS)/train.csv'

calibrate: $(READY)  ## Find out what the best run of the example knows, and limits that keep its promises
	$(BIN)/python -m madewithml.train --if-missing
	$(CALIBRATE)

test: $(READY)  ## All tests
	$(BIN)/python -m pytest

test-cluster: $(READY)  ## All tests on Ray, the long ones too; some 15 minutes
	$(BIN)/python -m pytest -m 'cluster or not cluster' tests/on_ray tests/contract

check: $(READY)  ## Format, lint, import contracts, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(READY)  ## Rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(BENCH_READY)  ## Measure Salver, rivals and bare limits (ONLY=salver,litserve); about two hours
	$(BIN)/python -m bench $(if $(ONLY),--only '$(ONLY)')

profile: $(BENCH_READY)  ## Draw flame graphs of a server under load (MODEL=constant), and time its steps
	$(BIN)/python -m bench.micro
	$(BIN)/python -m bench.micro.profile $(MODEL)

clean:  ## Remove what the verbs above made
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache mlflow.db mlruns mlartifacts \
		bench/.venvs bench/.artifacts

$(READY): pyproject.toml constraints.txt examples/madewithml/pyproject.toml
	@echo "Installing into .venv (a few minutes the first time; torch is the bulk) ..." >&2
	@test -d .venv || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[$(EXTRAS),dev]' -e examples/madewithml >&2
	@touch $@

$(BENCH_READY): $(READY)
	@command -v wrk >/dev/null || { echo "The load generator wrk is missing: apt install wrk" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]' >&2
	@touch $@
