#!/usr/bin/env bash
# Everything that docs/results.md lists as waiting for a GPU, in one call: the `cuda` tests, the benchmarks, the
# seed recipe in full, the other presets, the shipped model, the literature's protocols. Results, logs and the name of
# the hardware go into the folder $OUT, by default gpu/; what fails has its log, and the others go on. STEPS names those
# to run (a pattern for `case`, such as 'seed-*' or '@(codec*|families)'), by default all: the tests and the short
# measurements come first. Ctrl-C ends the whole; unless all steps have succeeded in one call, the checkpoints stay, and
# training that was stopped goes on in the next call.
#
# PYTHON names the interpreter (3.11 or newer, with PyTorch 2.11 or newer and the package's other dependencies; if those
# cannot be installed there, WHEELS names a folder of their wheels, made elsewhere by `pip download`).
set -uo pipefail
shopt -s extglob  # for STEPS
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=${OUT:-gpu}
mkdir -p "$out"
out=$(cd "$out" && pwd)  # the tests start programs in other folders
export PYTHONPATH=$PWD/src
if [ -n "${WHEELS:-}" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --target "$out/../gpu-dependencies" "$WHEELS"/*.whl || exit 1
    export PYTHONPATH=$PYTHONPATH:$out/../gpu-dependencies
fi

failed=0 ran=0
step() {  # step NAME COMMAND...: its output goes to NAME.log; a failure does not stop the others
    # shellcheck disable=SC2254  # a pattern
    case $1 in ${STEPS:-*}) ;; *) return ;; esac
    echo "== $1"
    ran=$((ran + 1))
    local log=$out/$1.log code=0
    shift
    "$@" >"$log" 2>&1 || code=$?
    if [ $code != 0 ]; then echo "failed, see $log"; failed=1; fi
    tail -n 3 "$log"
    case $code in 130 | 143) exit $code ;; esac  # it was stopped, by a signal that it handled itself
}

step hardware nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
step versions "$python" -c 'import torch; print(torch.__version__, torch.version.cuda)'
step cuda-tests "$python" -m pytest -m cuda -rs tests/sampling/test_cuda.py tests/codec/test_device.py
step graph-tests "$python" -m pytest -rs tests/sampling/test_graph.py tests/arithmetic/test_precision.py
step agreement-graph "$python" benchmarks/agreement.py --device cuda --engine graph --n 10000
step engines "$python" benchmarks/gpu.py --out "$out/engines.json"
step precision "$python" benchmarks/precision.py --device cuda --n 10000
step million "$python" benchmarks/gpu.py --runs 3 --batches 4096 --total 1000000 --out "$out/million.json"
step million-shards "$python" -m pixelcnn sample mnist -n 1000000 --out "$out/million" --device cuda
rm -rf "$out/million"
step sampling "$python" benchmarks/sampling.py --device cuda --out "$out"
step scaling "$python" benchmarks/scaling.py --device cuda --out "$out"
step training "$python" benchmarks/training.py --device cuda --batches 128 1024 --out "$out"
for seed in 0 1 2; do
    step "seed-$seed" bash -c 'time "$0" "$@"' \
        "$python" -m pixelcnn train mnist --preset seed --seed $seed --device cuda --out "$out/seed-$seed"
    step "seed-$seed-evaluation" "$python" -m pixelcnn evaluate "$out/seed-$seed" mnist:seed-validation --device cuda
done
step fast "$python" -m pixelcnn train mnist --preset fast --minutes 1 --batch-size 128 --ema 0.999 --protocol seed \
    --device cuda --out "$out/fast"
step best "$python" -m pixelcnn train mnist --preset best --protocol seed --device cuda --out "$out/best"
for name in mnist mnist-seed mnist-gray photos; do  # `photos` fetches its photographs from Debian's packages
    step "$name" env RECIPE=full DEVICE=cuda PYTHON="$python" "runs/$name.sh" "$out/trained"
    model=$out/trained/$name/model shipped=src/pixelcnn/pretrained/$name
    if [ -d "$model" ] && [ "$shipped/model.safetensors" -nt "$model" ]; then  # and not the one that was there before
        rm -rf "$out/shipped-$name"
        cp -r "$shipped" "$out/shipped-$name"
    fi
done
step completion "$python" benchmarks/completion.py --device cuda --out "$out"
step codec "$python" -m pixelcnn compress mnist mnist:test --device cuda --out "$out/cuda.pxcn"
step codec-cpu "$python" -m pixelcnn compress mnist mnist:test --no-verify --out "$out/cpu.pxcn"
step codec-same cmp "$out/cuda.pxcn" "$out/cpu.pxcn"
step families "$python" benchmarks/families.py --device cuda --out "$out"
for protocol in threshold dynamic gray; do
    step "literature-$protocol" env PYTHON="$python" DEVICE=cuda OUT="$out/literature-$protocol" \
        bash "runs/literature-$protocol.sh"
done
[ $ran != 0 ] || { echo "STEPS names none of the steps: $STEPS" >&2; exit 2; }
if [ $failed = 0 ] && [ -z "${STEPS:-}" ]; then rm -rf "$out"/*/checkpoints "$out"/trained/*/checkpoints; fi
exit $failed
