#!/usr/bin/env bash
# The shipped model `mnist`. RECIPE=short, which made the weights in the package: the seed network, 3 epochs on the clean
# split, 50 minutes on two cores. RECIPE=full, for a GPU (half a day on two cores): the example's recipe exactly, 50
# epochs on the `seed` split, and a twin on the clean split, which the official test set is measured with. Both write
# the model with its card into src/pixelcnn/pretrained/mnist. Stopped, the same command goes on.
#
#     [RECIPE=full] [PYTHON=.venv/bin/python] [DEVICE=auto] runs/mnist.sh [FOLDER, by default trained]
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-trained}
pixelcnn() { "${PYTHON:-.venv/bin/python}" -m pixelcnn "$@" --device "${DEVICE:-auto}"; }

evaluated() {  # evaluated HEADING RUN DATA
    printf '\n## %s\n\n`pixelcnn evaluate` on `%s`:\n\n```text\n' "$1" "$3"
    pixelcnn evaluate "$2" "$3"
    printf '```\n'
}

mkdir -p "$runs"
if [ "${RECIPE:-short}" = full ]; then
    pixelcnn train mnist --preset seed --out "$runs/mnist"
    pixelcnn train mnist --preset seed --protocol clean --out "$runs/mnist-clean"
    {
        evaluated "On the seed protocol's validation set" "$runs/mnist" mnist:seed-validation
        evaluated "A twin trained on the clean split, on the official test set" "$runs/mnist-clean" mnist:test
    } >"$runs/mnist.md"
else
    pixelcnn train mnist --preset seed --protocol clean --epochs 3 --batch-size 32 --learning-rate 1e-3 \
        --schedule cosine --warmup-steps 200 --out "$runs/mnist"
    evaluated "On the official test set" "$runs/mnist" mnist:test >"$runs/mnist.md"
fi
rm -rf src/pixelcnn/pretrained/mnist
mkdir -p src/pixelcnn/pretrained
cp -r "$runs/mnist/model" src/pixelcnn/pretrained/mnist
sed -i 's|load(".")|load("mnist")|; s|^license: unknown|license: apache-2.0|
    s|these weights: unknown|these weights: apache-2.0|' src/pixelcnn/pretrained/mnist/README.md
cat "$runs/mnist.md" >>src/pixelcnn/pretrained/mnist/README.md
