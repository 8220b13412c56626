#!/usr/bin/env bash
# The shipped model `mnist`: MNIST in black and white by class, a network that sees the whole picture, on the clean split.
# A run on the images, then on distorted copies of them as well (runs/mnist_data.py), against overfitting, each from the
# weights of the one before; then short runs on the images alone, of whose weights the mean is taken; and once more.
# The preset `best`: RECIPE=short for 92 minutes of two cores, 130 of one, 21 of two and 33 of one; RECIPE=full for three
# hours for each of the long ones. How it is called: see runs/shipped.bash.
source "$(dirname "$0")/shipped.bash"
sections=$runs/mnist.md python=${PYTHON:-.venv/bin/python}
for_minutes() { if [ "$recipe" = short ]; then echo "--minutes $1"; fi; }
by_class() { pixelcnn train "$@" --conditional --preset best ${THREADS:+--threads "$THREADS"}; }

distorted() {  # distorted FIRST MINUTES INIT RATE OUT OPTIONS...: on the images and six distorted copies, from FIRST on
    local data=$runs/mnist-distorted-$1.npz minutes=$2 init=$3 rate=$4 out=$5
    "$python" runs/mnist_data.py "$data" "$1"
    by_class "$data" --init "$init" --held-out 0.002 --learning-rate "$rate" $(for_minutes "$minutes") --out "$out" "${@:6}"
}

alone() {  # alone INIT STEPS RATE SEED OUT: a short run on the images
    by_class mnist --init "$1" --steps "$2" --learning-rate "$3" --seed "$4" --label-dropout 0.1 --ema 0.999 \
        --finish last --out "$5"
}

by_class mnist --label-dropout 0.5 $(for_minutes 92) --out "$runs/mnist-1"
distorted 1 80 "$runs/mnist-1" 2.5e-3 "$runs/mnist-2" --label-dropout 0.3
distorted 1 50 "$runs/mnist-2" 1.2e-3 "$runs/mnist-3" --label-dropout 0.1 --ema 0.9995
alone "$runs/mnist-3" 3437 4e-4 0 "$runs/mnist-3a"
alone "$runs/mnist-3" 6874 7e-4 0 "$runs/mnist-3b"
alone "$runs/mnist-3" 3437 5e-4 1 "$runs/mnist-3c"
"$python" runs/mean_of.py "$runs/mnist-4" "$runs/mnist-3a" "$runs/mnist-3b" "$runs/mnist-3c"
distorted 7 21 "$runs/mnist-4" 1.2e-3 "$runs/mnist-5" --label-dropout 0.1 --ema 0.9995 --finish last
alone "$runs/mnist-5" 3437 4e-4 0 "$runs/mnist-5a"
alone "$runs/mnist-5" 3437 5e-4 1 "$runs/mnist-5b"
"$python" runs/mean_of.py "$runs/mnist/model" "$runs/mnist-5a" "$runs/mnist-5b"
{
    evaluated "On the validation images of MNIST, given the classes" "$runs/mnist" mnist:validation
    evaluated "On the official test set, given the classes" "$runs/mnist" mnist:test
    evaluated "On the official test set, as the mixture of its classes" "$runs/mnist" mnist:test --classes marginal
    evaluated "On the official test set, without them" "$runs/mnist" mnist:test --classes none
} >"$sections"
ship mnist <"$sections"
