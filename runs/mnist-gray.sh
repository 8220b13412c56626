#!/usr/bin/env bash
# The shipped model `mnist-gray`: MNIST in its 256 levels, a network that sees the whole picture. RECIPE=short: the preset
# `fast`, for 56 minutes of two cores. RECIPE=full: the preset `best`, three hours. How it is called: see
# runs/shipped.bash. (The weights in the package are still of an earlier recipe: their card says which.)
source "$(dirname "$0")/shipped.bash"
sections=$runs/mnist-gray.md
if [ "$recipe" = full ]; then
    pixelcnn train mnist --levels 256 --preset best --out "$runs/mnist-gray"
else
    pixelcnn train mnist --levels 256 --preset fast --minutes 56 --out "$runs/mnist-gray"
fi
evaluated "On the official test set" "$runs/mnist-gray" mnist:test >"$sections"
ship mnist-gray <"$sections"
