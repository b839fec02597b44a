#!/usr/bin/env bash
# Workers of a sweep as a Slurm job array, one CPU each:
#   export SWEEPS_STORAGE=postgresql://... MLFLOW_TRACKING_URI=http://...
#   sbatch --array=1-64 sweeps/deploy/slurm.sh
#   .venv/bin/python -m sweeps run --study lander --workers 0    # creates the sweep, shows it, ends with it
# A requeued or added task just works on: the total stays exact.
#SBATCH --job-name=sweeps
#SBATCH --cpus-per-task=1
#SBATCH --mem=1G
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
set -euo pipefail
store="${SLURM_TMPDIR:-/tmp}/sweeps-$SLURM_JOB_ID-$SLURM_ARRAY_TASK_ID"
exec .venv/bin/python -m sweeps work --study "${STUDY:-lander}" --store "$store"
