# Every target creates .venv if it is missing, and updates it if its requirements have changed.

## a study by its name, or your own file
STUDY = lander
## how many trials count in all [the study's]
TRIALS =
## worker processes [one per usable core]
WORKERS =
## best, confirmed, a number, or the id of a run in MLflow
TRIAL = best
## how many of the best trials race [3]
TOP =
## trainings of a confirmation altogether, at most [40]
TRAININGS =
## folder of the records
STORE = mlruns
## folder that gets every notebook as a page in Markdown, for the documentation
MARKDOWN =
## a study with points
NAME = heads
## commit to measure beside; empty: none
BESIDE = b642153
## port on 127.0.0.1; if it is in use, the next free one
PORT = 5000
## 1: open a browser
OPEN =
## 1: show the documentation while you edit it
SERVE =
## the Python that .venv is made with [the first that fits]
PYTHON =
## extras of pyproject.toml to install
EXTRAS =
## more arguments for the installer
PIP_ARGS =

OLDEST  := 11
NEWEST  := 13
## the installer uv, if it is on the PATH; empty: pip
UV      := $(shell command -v uv 2>/dev/null)
BIN     := .venv/bin
STAMP   := .venv/.installed
SWEEPS  := $(BIN)/python -m sweeps
ANALYSIS := $(BIN)/python -m analysis

# Python compiles what it imports and keeps it, unless it is forbidden to: the installer then compiles
# everything, which takes a minute more. Bars are for the first, long install.
QUIET   = $$([ -t 2 ] && [ ! -e $(STAMP) ] || echo --quiet)
PIP     = $(BIN)/python -m pip install --disable-pip-version-check $(QUIET) $(if $(PYTHONDONTWRITEBYTECODE),,--no-compile)
UV_PIP  = '$(UV)' pip install --python $(BIN)/python $(if $(PYTHONDONTWRITEBYTECODE),--compile-bytecode)
INSTALL = $(if $(UV),$(UV_PIP),$(PIP)) --constraint constraints.txt $(PIP_ARGS)
with    = $(patsubst %,$(STAMP)-%,$(1))

.DEFAULT_GOAL = help
.DELETE_ON_ERROR:  # half of a .venv is none
.PHONY: help install sweep confirm why report notebooks lab ui dashboard reproduce doctor health figures experiment tables \
        bakeoff bench docs test test-slow test-wheel test-browser test-cluster cluster-demo check format clean

help: ## list the targets and the variables
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@awk -F ' *:?= *' '/^## / { text = substr($$0, 4) } /^[A-Z_]+ *:?=/ && text { \
		printf "%-17s %s\n", $$1 "=" ($$2 ~ /^\$$/ ? "" : $$2), text; text = "" }' Makefile

define CREATE_VENV
fits() {
    "$$1" -c 'import sys; sys.exit(not (3, $(OLDEST)) <= sys.version_info[:2] <= (3, $(NEWEST)))' 2>/dev/null
}
version() {
    "$$1" -c 'import platform; print("is Python", platform.python_version())' 2>/dev/null || echo "is no Python"
}
refuse() {
    echo "this project needs Python 3.$(OLDEST) to 3.$(NEWEST): $$1" >&2
    exit 1
}
for fitting in python3 python3.13 python3.12 python3.11 ''; do fits "$$fitting" && break; done
asked='$(PYTHON)'
if [ "$$asked" ] && ! fits "$$asked"; then
    refuse "$$asked $$(version "$$asked"); what would work is make $(MAKECMDGOALS) PYTHON=$${fitting:-PATH/OF/ONE}"
fi
chosen=$${asked:-$$fitting}
if [ -z "$$chosen" ] && [ -z '$(UV)' ]; then
    refuse "python3 $$(version python3); install one, then: make $(MAKECMDGOALS) PYTHON=python3.$(NEWEST)"
fi
machine=$$(uname -sm)
if [ "$$machine" = 'Linux aarch64' ] && [ -z '$(PIP_ARGS)' ]; then
    echo 'Box2D has no wheel for Linux on ARM: use x86_64, or give a wheel with PIP_ARGS="--find-links FOLDER"' >&2
    exit 1
fi
echo "setting up .venv, once, with $${chosen:-a Python that uv fetches}: PyTorch, MLflow, Optuna, Gymnasium and what they need"
echo 'that is 0.4 GB to download and 1.5 GB on disk, and takes about 3 minutes'
if [ "$$machine" = 'Linux x86_64' ] && [ -z '$(PIP_ARGS)' ]; then
    echo 'and 3 GB more where PyTorch for Linux comes with CUDA, which nothing here uses: docs/install.md, "CPU only"'
fi
if [ '$(UV)' ]; then
    '$(UV)' venv --quiet --seed --clear --python "$${chosen:-3.$(NEWEST)}" .venv
else
    "$$chosen" -m venv --clear .venv
fi
endef
export CREATE_VENV

$(BIN)/python:
	@sh -euc "$$CREATE_VENV"

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@$(INSTALL) --editable .
	@touch $@

ADDS_bench     := Stable-Baselines3 and cmaes
ADDS_browser   := Playwright, which drives a browser, and what tests need
ADDS_cluster   := Ray and psycopg
ADDS_dashboard := the dashboard of Optuna
ADDS_dev       := mypy, ruff, pytest, Ray, a PostgreSQL to test with
ADDS_docs      := MkDocs and its theme Material
ADDS_fast      := EnvPool
ADDS_lab       := JupyterLab
ADDS_notebooks := nbconvert and a kernel for Jupyter
ADDS_servers   := a PostgreSQL to test with
ADDS_test      := pytest, Hypothesis, MkDocs, nbconvert and a kernel for Jupyter
ADDS_video     := PyAV, which writes films as MP4

$(call with,$(patsubst ADDS_%,%,$(filter ADDS_%,$(.VARIABLES)))): $(STAMP)-%: $(STAMP)
	@echo 'adding to .venv, once: $(ADDS_$*)'
	@$(INSTALL) --editable '.[$*]'
	@touch $@

install: $(call with,$(EXTRAS)) $(STAMP) ## set up .venv (every other target does it when needed): EXTRAS=

sweep: $(STAMP) ## run a study, or resume it: STUDY= TRIALS= WORKERS= STORE=
	@$(SWEEPS) run --study '$(STUDY)' --store '$(STORE)' $(if $(TRIALS),--trials $(TRIALS)) $(if $(WORKERS),--workers $(WORKERS))

confirm: $(STAMP) ## race a sweep's best trials, measure the winner beside the base: STUDY= TRAININGS= TOP= WORKERS=
	@$(SWEEPS) confirm --study '$(STUDY)' --store '$(STORE)' \
		$(if $(TOP),--top $(TOP)) $(if $(TRAININGS),--trainings $(TRAININGS)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(WORKERS),--workers $(WORKERS))

why: $(STAMP) ## train the path from a sweep's base to its winner, one field at a time: STUDY= WORKERS= STORE=
	@$(SWEEPS) why --study '$(STUDY)' --store '$(STORE)' $(if $(WORKERS),--workers $(WORKERS))

report: $(STAMP) ## write a report on a sweep to STORE/reports: STUDY= STORE=
	@$(SWEEPS) report --study '$(STUDY)' --store '$(STORE)'

notebooks: $(call with,notebooks) ## run the notebooks on a sweep, pages in STORE/reports/notebooks: STUDY= STORE= MARKDOWN=
	@$(SWEEPS) notebooks --study '$(STUDY)' --store '$(STORE)' $(if $(MARKDOWN),--markdown '$(MARKDOWN)')

lab: $(call with,lab) ## open the notebooks in JupyterLab, on 127.0.0.1 and a free port
	@$(BIN)/python -m jupyterlab --ServerApp.ip=127.0.0.1 --ServerApp.root_dir="$$PWD" --log-level=ERROR \
		$(if $(filter 0,$(shell id -u)),--allow-root) \
		--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate --LabApp.news_url=None --LabApp.extension_manager=readonly \
		--LabApp.default_url=/lab/tree/analysis/notebooks/00_start.ipynb

ui: $(STAMP) ## serve MLflow, reports and a start page on 127.0.0.1, print the links: OPEN=1 PORT= STORE=
	@$(SWEEPS) ui --store '$(STORE)' --port $(PORT) $(if $(OPEN),--open)

dashboard: PORT = 8080
dashboard: $(call with,dashboard) ## serve the same, print links to Optuna's dashboard: OPEN=1 PORT=8080 STORE=
	@$(SWEEPS) dashboard --store '$(STORE)' --port $(PORT) $(if $(OPEN),--open)

reproduce: $(STAMP) ## retrain a trial from its record, compare bit for bit: STUDY= TRIAL=best|confirmed|N|RUN STORE=
	@$(SWEEPS) reproduce --study '$(STUDY)' --trial '$(TRIAL)' --store '$(STORE)'

doctor: $(STAMP) ## check a store, and repair what is wrong with it: STORE=
	@$(SWEEPS) doctor --store '$(STORE)'

health: $(STAMP) ## what a sweep says about itself, each with a remedy: STUDY= STORE=
	@$(SWEEPS) health --study '$(STUDY)' --store '$(STORE)'

figures: $(STAMP) ## update the pictures and tables of README and docs from a sweep: STUDY= STORE=
	@$(SWEEPS) figures --study '$(STUDY)' --store '$(STORE)' --out analysis/figures
	@$(ANALYSIS) tables

bakeoff: $(call with,bench) ## simulate sweeps on the landscape by every rule, half an hour: WORKERS=
	@$(ANALYSIS) bakeoff $(if $(WORKERS),--workers $(WORKERS))

bench: $(call with,dev bench fast) ## measure beside Stable-Baselines3 and an earlier commit, on an idle machine, more than an hour: BESIDE=
	@$(BIN)/python -m tests.bench $(if $(BESIDE),--beside '$(BESIDE)')

docs: export NO_MKDOCS_2_WARNING = 1  # Material is maintained until May 2027
docs: PORT = 8000
docs: $(call with,docs) ## build the documentation in site/, or show it on 127.0.0.1 while it is edited: SERVE=1 PORT=8000
	@$(BIN)/python -m mkdocs $(if $(SERVE),serve --livereload --dev-addr 127.0.0.1:$(PORT),--quiet build)
	@$(if $(SERVE),,echo 'the documentation begins at site/index.html')

test: $(call with,test) ## run the tests, including one real miniature sweep
	$(BIN)/python -m pytest -m 'not slow and not cluster and not browser' --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slow: $(call with,dev bench fast) ## run the slow tests, such as every head landing on LunarLander: a quarter of an hour
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m pytest tests/lander/test_pooled.py

test-wheel: $(STAMP) ## build the wheel, and use it outside of this folder
	$(BIN)/python -m tests.wheel

test-browser: $(call with,browser) ## look at every page of a small sweep in a headless Chromium
	@$(BIN)/python -m tests.browser

test-cluster: $(call with,dev) ## test PostgreSQL, an MLflow server and Ray, and their failures, on this machine
	$(BIN)/python -m pytest -m cluster tests/cluster

cluster-demo: $(call with,dev) ## run a small sweep on servers and two hosts, all on this machine
	@$(BIN)/python -m tests.cluster

experiment: $(STAMP) ## train what is missing of a study with points, export its results: NAME= WORKERS= STORE=
	@$(SWEEPS) run --study '$(NAME)' --store '$(STORE)' $(if $(WORKERS),--workers $(WORKERS))
	@$(ANALYSIS) export '$(NAME)' --store '$(STORE)'

tables: $(STAMP) ## update the tables of README and docs from analysis/experiments/results
	@$(ANALYSIS) tables

check: $(call with,dev) ## check format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(call with,dev) ## format the code and fix lint
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

clean: ## remove .venv and caches, keep all records
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
