#!/usr/bin/env bash
# Workers of a sweep as a Slurm job array, one CPU each:
#   export SWEEPS_STORAGE=postgresql://... MLFLOW_TRACKING_URI=http://...
#   sbatch --array=1-64 sweeps/deploy/slurm.sh
#   .venv/bin/python -m sweeps run --study lander --workers 0    # creates the sweep, shows it, ends with it
# A requeued or added task just works on: the total stays exact. Its store holds records that MLflow has
# not received yet, so it is a folder that outlives the job: STORE, or one where sbatch was called. A
# task that ends while records wait fails; requeue it (scontrol requeue), or run the doctor it names.
#SBATCH --job-name=sweeps
#SBATCH --cpus-per-task=1
#SBATCH --mem=1G
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
set -euo pipefail
store="${STORE:-$SLURM_SUBMIT_DIR/mlruns/slurm-${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}-${SLURM_ARRAY_TASK_ID:-0}}"
exec .venv/bin/python -m sweeps work --study "${STUDY:-lander}" --store "$store"
