#!/usr/bin/env bash
# The shipped model `mnist`: MNIST in black and white by class, a network that sees the whole picture, on the clean split.
# RECIPE=short: the preset `fast`, for 56 minutes of two cores. RECIPE=full: the preset `best`, three hours. How it is
# called: see runs/shipped.bash.
source "$(dirname "$0")/shipped.bash"
sections=$runs/mnist.md
if [ "$recipe" = full ]; then
    length=(--preset best)
else
    length=(--preset fast --minutes 56)
fi
pixelcnn train mnist --conditional "${length[@]}" --out "$runs/mnist"
{
    evaluated "On the official test set, given the classes" "$runs/mnist" mnist:test
    evaluated "On the official test set, without them" "$runs/mnist" mnist:test --no-labels
} >"$sections"
ship mnist <"$sections"
