#!/usr/bin/env bash
# The shipped model `mnist`: MNIST in black and white by class, a network that sees the whole picture, on the clean split;
# then the same on distorted copies as well (runs/mnist_data.py), against overfitting. The preset `best`: RECIPE=short for
# 98 minutes of two cores and 105 of one, RECIPE=full for three hours of each. How it is called: see runs/shipped.bash.
source "$(dirname "$0")/shipped.bash"
sections=$runs/mnist.md
first=(--minutes 98) second=(--minutes 105)
if [ "$recipe" = full ]; then first=() second=(); fi
distorted=$runs/mnist-distorted.npz
"${PYTHON:-.venv/bin/python}" runs/mnist_data.py "$distorted"
pixelcnn train mnist --conditional --preset best --label-dropout 0.5 "${first[@]}" --out "$runs/mnist-first"
pixelcnn train "$distorted" --init "$runs/mnist-first" --conditional --preset best --learning-rate 2.5e-3 \
    --label-dropout 0.3 --held-out 0.002 "${second[@]}" ${THREADS:+--threads "$THREADS"} --out "$runs/mnist"
{
    evaluated "On the validation images of MNIST, given the classes" "$runs/mnist" mnist:validation
    evaluated "On the official test set, given the classes" "$runs/mnist" mnist:test
    evaluated "On the official test set, as the mixture of its classes" "$runs/mnist" mnist:test --classes marginal
    evaluated "On the official test set, without them" "$runs/mnist" mnist:test --classes none
} >"$sections"
ship mnist <"$sections"
