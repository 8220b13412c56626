#!/usr/bin/env bash
# The shipped model `mnist`: MNIST in black and white by class, a network that sees the whole picture, on the clean split;
# then the same on distorted copies as well (runs/mnist_data.py), against overfitting, in two runs, the second at a lower
# rate and with fewer labels dropped. The preset `best`: RECIPE=short for 92 minutes of two cores, and 80 and 50 of one;
# RECIPE=full for three hours of each. How it is called: see runs/shipped.bash.
source "$(dirname "$0")/shipped.bash"
sections=$runs/mnist.md
first=(--minutes 92) second=(--minutes 80) third=(--minutes 50)
if [ "$recipe" = full ]; then first=() second=() third=(); fi
distorted=$runs/mnist-distorted.npz
"${PYTHON:-.venv/bin/python}" runs/mnist_data.py "$distorted"
more=(--conditional --preset best --held-out 0.002 ${THREADS:+--threads "$THREADS"})
pixelcnn train mnist --conditional --preset best --label-dropout 0.5 "${first[@]}" --out "$runs/mnist-first"
pixelcnn train "$distorted" --init "$runs/mnist-first" --learning-rate 2.5e-3 --label-dropout 0.3 "${more[@]}" \
    "${second[@]}" --out "$runs/mnist-second"
pixelcnn train "$distorted" --init "$runs/mnist-second" --learning-rate 1.2e-3 --label-dropout 0.1 --ema 0.9995 "${more[@]}" \
    "${third[@]}" --out "$runs/mnist"
{
    evaluated "On the validation images of MNIST, given the classes" "$runs/mnist" mnist:validation
    evaluated "On the official test set, given the classes" "$runs/mnist" mnist:test
    evaluated "On the official test set, as the mixture of its classes" "$runs/mnist" mnist:test --classes marginal
    evaluated "On the official test set, without them" "$runs/mnist" mnist:test --classes none
} >"$sections"
ship mnist <"$sections"
