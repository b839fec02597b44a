"""Where sweeps are recorded: Optuna's database of trials, MLflow's of runs, and the artifacts.

`store.Store` opens both databases, each on a server or in a file of the store's folder. Trials go
through `budget_storage`, runs through `mlflow_client`; the other modules say what can go wrong.
"""
