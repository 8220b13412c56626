#!/usr/bin/env bash
# Everything that docs/results.md lists as waiting for a GPU, in one call: the `cuda` tests, the seed recipe in full and
# the sampling benchmark. Results, logs and the name of the hardware go into the folder $OUT, by default gpu/.
#
# PYTHON names the interpreter (3.11 or newer, with PyTorch 2.11 or newer and the package's other dependencies; if those
# cannot be installed there, WHEELS names a folder of their wheels, made elsewhere by `pip download`).
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=${OUT:-gpu}
mkdir -p "$out"
export PYTHONPATH=$PWD/src
if [ -n "${WHEELS:-}" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --target "$out/../gpu-dependencies" "$WHEELS"/*.whl || exit 1
    export PYTHONPATH=$PYTHONPATH:$out/../gpu-dependencies
fi

failed=0
step() {  # step NAME COMMAND...: its output goes to NAME.log; a failure does not stop the others
    echo "== $1"
    local log=$out/$1.log
    shift
    "$@" >"$log" 2>&1 || { echo "failed, see $log"; failed=1; }
    tail -n 3 "$log"
}

step hardware nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
step cuda-tests "$python" -m pytest -m cuda -rs tests/test_cuda.py
step seed-training "$python" -m pixelcnn train mnist --preset seed --device cuda --out "$out/seed"
step seed-evaluation "$python" -m pixelcnn evaluate "$out/seed" mnist:seed-validation --device cuda
step sampling "$python" benchmarks/sampling.py --device cuda --out "$out"
step scaling "$python" benchmarks/scaling.py --device cuda --out "$out"
rm -rf "$out/seed/checkpoints"
exit $failed
