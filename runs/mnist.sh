#!/usr/bin/env bash
# The shipped model `mnist`: MNIST in black and white by class, a network that sees the whole picture, on the clean split,
# in two stages of the preset `best`: half of the labels dropped, then a tenth. RECIPE=short for 98 and 100 minutes of two
# cores, RECIPE=full for three hours each. How it is called: see runs/shipped.bash.
source "$(dirname "$0")/shipped.bash"
sections=$runs/mnist.md
first=()
second=()
if [ "$recipe" = short ]; then first=(--minutes 98) second=(--minutes 100); fi
pixelcnn train mnist --conditional --preset best --label-dropout 0.5 "${first[@]}" --out "$runs/mnist-first"
pixelcnn train mnist --conditional --preset best --label-dropout 0.1 --learning-rate 2e-3 "${second[@]}" \
    --init "$runs/mnist-first" --out "$runs/mnist"
{
    evaluated "On the official test set, given the classes" "$runs/mnist" mnist:test
    evaluated "On the official test set, as the mixture of its classes" "$runs/mnist" mnist:test --classes marginal
    evaluated "On the official test set, without them" "$runs/mnist" mnist:test --classes none
} >"$sections"
ship mnist <"$sections"
