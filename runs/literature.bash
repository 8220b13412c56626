# What the three runs/literature-*.sh share; sourced, not run. Each names its protocol, and `literature` trains by it,
# evaluates, and prints the row for docs/results.md.
#
#   BUDGET=gpu|cpu   gpu: a large network for 100 epochs (default). cpu: the preset `best` for MINUTES (default 60)
#                    (validation comes on top, and takes one forward pass per image for each order)
#   ORDERS=8         scan orders of the ensemble: 1 (a single model), 2, 4 or 8
#   DEVICE=auto      auto, cpu, cuda or cuda:N
#   OUT=FOLDER       the run's folder, by default trained/literature-NAME
#   PYTHON=python    an interpreter that has the package's dependencies, by default .venv/bin/python
#
# A run that was stopped goes on by the same command. (${size[@]+...} is for the Bash of macOS, to which an empty array is
# unset.)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
budget=${BUDGET:-gpu}
orders=${ORDERS:-8}
python=${PYTHON:-.venv/bin/python}
export PYTHONPATH=$PWD/src${PYTHONPATH:+:$PYTHONPATH}

literature() {  # literature NAME DATA TEST MODEL OPTIONS...: trains on DATA with the OPTIONS, evaluates on TEST
    local name=$1 data=$2 test=$3 model=$4 size result nats error bits
    shift 4
    local out=${OUT:-trained/literature-$name}
    local recipe=(--preset best --epochs 100)
    case $budget-$model in
        gpu-gated) size=(--filters 64 --layers 12 --kernel-size 5 --attention 2) ;;
        gpu-plusplus) size=(--filters 64 --blocks 4) ;;
        cpu-*) size=() ;;
        *) echo "BUDGET must be gpu or cpu, got $budget" >&2; exit 2 ;;
    esac
    if [ "$budget" = cpu ]; then
        recipe=(--preset best --minutes "${MINUTES:-60}" --sample-images 16)
    fi
    "$python" -m pixelcnn train "$data" --model "$model" "${recipe[@]}" ${size[@]+"${size[@]}"} --orders "$orders" "$@" \
        --device "${DEVICE:-auto}" --out "$out"
    result=$("$python" -m pixelcnn evaluate "$out" "$test" --device "${DEVICE:-auto}")
    echo "$result"
    read -r nats error < <(awk '/nats\/image/ {print $2, $4}' <<<"$result")
    bits=$(awk '/bits\/dim/ {print $2}' <<<"$result")
    echo "| $name | $orders scan orders: $nats +- $error nats per image, $bits bits/dim |" \
        "\`BUDGET=$budget ORDERS=$orders runs/literature-$name.sh\` |" \
        "commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown) |"
}
