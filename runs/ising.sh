#!/usr/bin/env bash
# The 16 x 16 Ising model at its critical temperature, beside Kaufman's exact free energy: under an hour of two idle cores.
# [PYTHON=.venv/bin/python] runs/ising.sh [FOLDER, by default trained]. Stopped, the same command goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
"${PYTHON:-.venv/bin/python}" examples/ising.py --size 16 --steps 3000 --batch-size 512 --optimizer muon \
    --learning-rate 1e-2 --ema 0.998 --precision bf16 --filters 24 --first-kernel 31 --kernels 3 3 --group flip --n 100000 \
    --out "${1:-trained}/ising"
