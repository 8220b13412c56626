#!/usr/bin/env bash
# Dynamically binarised MNIST on two cores, from the weights of the shipped `mnist`, which has seen the same 55,000
# images: a model without classes, a model by class, another by class that reads the pixels from the last to the first,
# and the mixture of these two. Measured, given no class, on the official test set drawn once, as in
# runs/literature-dynamic.sh, whose networks start at random weights. Two hours; stopped, the same command goes on.
#
#     [PYTHON=.venv/bin/python] runs/dynamic.sh [FOLDER, by default trained]
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD/src${PYTHONPATH:+:$PYTHONPATH}
python=${PYTHON:-.venv/bin/python} runs=${1:-trained}
mkdir -p "$runs"

order() { "$python" runs/order.py "$runs/dynamic-$1" "${@:2}" 2>>"$runs/dynamic-$1.log"; }

{
    order plain right-down mnist 2e-3 1 60
    order forwards right-down mnist 2e-3 0.1 42
} &
first=$!
order before left-up mnist 3e-3 1 38
order backwards left-up "$runs/dynamic-before" 2e-3 0.1 42
wait $first
"$python" - "$runs" <<'PY'
import sys
import pixelcnn
from pixelcnn.models import OrderEnsemble
parts = [pixelcnn.load(f"{sys.argv[1]}/dynamic-{name}") for name in ("forwards", "backwards")]
OrderEnsemble(parts, ["right-down", "left-up"]).save_pretrained(f"{sys.argv[1]}/dynamic-both")
PY
"$python" -m pixelcnn evaluate "$runs/dynamic-plain" mnist-dynamic:test --classes none
"$python" -m pixelcnn evaluate "$runs/dynamic-forwards" mnist-dynamic:test --classes marginal
"$python" -m pixelcnn evaluate "$runs/dynamic-both" mnist-dynamic:test --classes marginal
