#!/usr/bin/env bash
# The shipped model `mnist`: MNIST in black and white by class, a network that sees the whole picture, on the clean split.
# The preset `best`: RECIPE=short for 98 minutes of two cores, RECIPE=full for its three hours. How it is called: see
# runs/shipped.bash.
source "$(dirname "$0")/shipped.bash"
sections=$runs/mnist.md
length=()
if [ "$recipe" = short ]; then length=(--minutes 98); fi
pixelcnn train mnist --conditional --preset best --label-dropout 0.5 "${length[@]}" --out "$runs/mnist"
{
    evaluated "On the official test set, given the classes" "$runs/mnist" mnist:test
    evaluated "On the official test set, as the mixture of its classes" "$runs/mnist" mnist:test --classes marginal
    evaluated "On the official test set, without them" "$runs/mnist" mnist:test --classes none
} >"$sections"
ship mnist <"$sections"
