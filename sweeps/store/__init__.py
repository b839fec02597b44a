"""Where a sweep is kept: Optuna's database of trials and MLflow's of runs."""
