# Every target sets up .venv by itself when it is missing or older than its requirements.

STUDY   = lander
TRIALS  =
WORKERS =
TRIAL   = best
TOP     = 3
SEEDS   = 10
STORE   = mlruns
NAME    = heads
PORT    = 5000
PYTHON  = python3

BIN       = .venv/bin
STAMP     = .venv/.installed
EXTRAS    = .venv/.extras
DASHBOARD = .venv/.dashboard
CLUSTER   = .venv/.cluster
INSTALL   = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
SWEEPS    = $(BIN)/python -m sweeps
ANALYSIS  = $(BIN)/python -m analysis

.DEFAULT_GOAL = help
.PHONY: help install sweep confirm report notebooks ui dashboard reproduce doctor figures experiment tables \
        bench test test-slow test-cluster cluster-demo check format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile
	@echo "variables: STUDY=$(STUDY) TRIALS= WORKERS= TRIAL=$(TRIAL) TOP=$(TOP) SEEDS=$(SEEDS) STORE=$(STORE) PORT=$(PORT)"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	$(INSTALL) '.[dev,notebooks]'
	@touch $@

$(EXTRAS): $(STAMP)
	$(INSTALL) '.[dev,notebooks,bench,fast,cluster,servers]'
	@touch $@

$(DASHBOARD): $(STAMP)
	$(INSTALL) '.[dev,notebooks,dashboard]'
	@touch $@

$(CLUSTER): $(STAMP)
	$(INSTALL) '.[dev,notebooks,cluster,servers]'
	@touch $@

install: $(STAMP) ## set up .venv (the other targets do it by themselves)

sweep: $(STAMP) ## run a study, or take it up again: STUDY= TRIALS= WORKERS= STORE=
	@$(SWEEPS) run --study '$(STUDY)' --store '$(STORE)' $(if $(TRIALS),--trials $(TRIALS)) $(if $(WORKERS),--workers $(WORKERS))

confirm: $(STAMP) ## train its best trials and the defaults under fresh seeds: STUDY= TOP= SEEDS= WORKERS=
	@$(ANALYSIS) confirm --study '$(STUDY)' --store '$(STORE)' --top $(TOP) --seeds $(SEEDS) $(if $(WORKERS),--workers $(WORKERS))

report: $(STAMP) ## a sweep on one page, in STORE/reports: STUDY= STORE=
	@$(ANALYSIS) report --study '$(STUDY)' --store '$(STORE)'

notebooks: $(STAMP) ## run the notebooks against a sweep, into STORE/reports/notebooks: STUDY= STORE=
	@$(ANALYSIS) notebooks --study '$(STUDY)' --store '$(STORE)'

ui: $(STAMP) ## serve the MLflow UI on 127.0.0.1 and print a link per study
	@$(SWEEPS) ui --store '$(STORE)' --port $(PORT)

dashboard: PORT = 8080
dashboard: $(DASHBOARD) ## Optuna's dashboard on 127.0.0.1, and a link per study: PORT=8080
	@$(SWEEPS) dashboard --store '$(STORE)' --port $(PORT)

reproduce: $(STAMP) ## retrain a trial from its record, compare bit for bit: STUDY= TRIAL=best|N
	@$(SWEEPS) reproduce --study '$(STUDY)' --trial '$(TRIAL)' --store '$(STORE)'

doctor: $(STAMP) ## find what is wrong with a store and mend it: STORE=
	@$(SWEEPS) doctor --store '$(STORE)'

figures: $(STAMP) ## the pictures that README shows, from the sweep in STORE
	@$(SWEEPS) figures --study '$(STUDY)' --store '$(STORE)' --out analysis/figures
	@$(BIN)/python -m lander random --env.id LunarLanderContinuous-v3 --gif analysis/figures/random.gif

bench: $(EXTRAS) ## speed beside Stable-Baselines3, alone on the machine: most of an hour
	@$(BIN)/python -m tests.bench

test: $(STAMP) ## the tests, one real miniature sweep included
	$(BIN)/python -m pytest -m 'not slow and not cluster' --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slow: $(EXTRAS) ## every head lands on LunarLander: a quarter of an hour
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m pytest tests/lander/test_pooled.py

test-cluster: $(CLUSTER) ## PostgreSQL, an MLflow server, Ray: what they survive, on this machine
	$(BIN)/python -m pytest -m cluster tests/cluster

cluster-demo: $(CLUSTER) ## a small sweep through servers and two hosts, all on this machine
	@$(BIN)/python -m tests.cluster

experiment: $(STAMP) ## the trainings of an experiment that are missing: NAME=ancestors|heads
	@$(ANALYSIS) run $(NAME)

tables: $(STAMP) ## README's tables, from analysis/experiments/results
	@$(ANALYSIS) tables README.md

check: $(CLUSTER) ## format, lint, types, import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## put the code in shape
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

clean: ## remove .venv and caches; everything recorded stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
