# Every target creates .venv if it is missing, and updates it if its requirements have changed.

STUDY   = lander
TRIALS  =
WORKERS =
TRIAL   = best
TOP     =
TRAININGS =
STORE   = mlruns
NAME    = heads
BESIDE  = b642153
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
        bakeoff bench test test-slow test-cluster cluster-demo check format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile
	@echo "variables: STUDY=$(STUDY) TRIALS= WORKERS= TRIAL=$(TRIAL) TOP= TRAININGS= STORE=$(STORE) PORT=$(PORT)"

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

install: $(STAMP) ## set up .venv (every other target does it when needed)

sweep: $(STAMP) ## run a study, or resume it: STUDY= TRIALS= WORKERS= STORE=
	@$(SWEEPS) run --study '$(STUDY)' --store '$(STORE)' $(if $(TRIALS),--trials $(TRIALS)) $(if $(WORKERS),--workers $(WORKERS))

confirm: $(STAMP) ## race a sweep's best trials, its base and the tuned defaults: STUDY= TRAININGS= TOP= WORKERS=
	@$(ANALYSIS) confirm --study '$(STUDY)' --store '$(STORE)' \
		$(if $(TOP),--top $(TOP)) $(if $(TRAININGS),--trainings $(TRAININGS)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(WORKERS),--workers $(WORKERS))

report: $(STAMP) ## write a report on a sweep to STORE/reports: STUDY= STORE=
	@$(ANALYSIS) report --study '$(STUDY)' --store '$(STORE)'

notebooks: $(STAMP) ## run the notebooks on a sweep, pages in STORE/reports/notebooks: STUDY= STORE=
	@$(ANALYSIS) notebooks --study '$(STUDY)' --store '$(STORE)'

ui: $(STAMP) ## serve the MLflow UI on 127.0.0.1, print a link per study: PORT= STORE=
	@$(SWEEPS) ui --store '$(STORE)' --port $(PORT)

dashboard: PORT = 8080
dashboard: $(DASHBOARD) ## serve Optuna's dashboard on 127.0.0.1, print a link per study: PORT=8080 STORE=
	@$(SWEEPS) dashboard --store '$(STORE)' --port $(PORT)

reproduce: $(STAMP) ## retrain a trial from its record, compare bit for bit: STUDY= TRIAL=best|confirmed|N STORE=
	@$(SWEEPS) reproduce --study '$(STUDY)' --trial '$(TRIAL)' --store '$(STORE)'

doctor: $(STAMP) ## check a store, and repair what is wrong with it: STORE=
	@$(SWEEPS) doctor --store '$(STORE)'

figures: $(STAMP) ## update the pictures in README from a sweep: STUDY= STORE=
	@$(SWEEPS) figures --study '$(STUDY)' --store '$(STORE)' --out analysis/figures
	@$(BIN)/python -m lander random --env.id LunarLanderContinuous-v3 --gif analysis/figures/random.gif

bakeoff: $(EXTRAS) ## simulate sweeps on the landscape by every rule, half an hour: WORKERS=
	@$(ANALYSIS) bakeoff $(if $(WORKERS),--workers $(WORKERS))

bench: $(EXTRAS) ## measure beside Stable-Baselines3 and an earlier commit, on an idle machine, more than an hour: BESIDE=
	@$(BIN)/python -m tests.bench $(if $(BESIDE),--beside '$(BESIDE)')

test: $(STAMP) ## run the tests, including one real miniature sweep
	$(BIN)/python -m pytest -m 'not slow and not cluster' --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slow: $(EXTRAS) ## run the slow tests, such as every head landing on LunarLander: a quarter of an hour
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m pytest tests/lander/test_pooled.py

test-cluster: $(CLUSTER) ## test PostgreSQL, an MLflow server and Ray, and their failures, on this machine
	$(BIN)/python -m pytest -m cluster tests/cluster

cluster-demo: $(CLUSTER) ## run a small sweep on servers and two hosts, all on this machine
	@$(BIN)/python -m tests.cluster

experiment: $(STAMP) ## train what is missing of a study with points, export its results: NAME= WORKERS= STORE=
	@$(SWEEPS) run --study '$(NAME)' --store '$(STORE)' $(if $(WORKERS),--workers $(WORKERS))
	@$(ANALYSIS) export '$(NAME)' --store '$(STORE)'

tables: $(STAMP) ## update README's tables from analysis/experiments/results
	@$(ANALYSIS) tables README.md

check: $(CLUSTER) ## check format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## format the code and fix lint
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

clean: ## remove .venv and caches, keep all records
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
