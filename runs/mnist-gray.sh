#!/usr/bin/env bash
# The shipped model `mnist-gray`: MNIST in its 256 levels, a gated network. RECIPE=short: 40,000 images, twenty minutes
# of one core. RECIPE=full: a larger one for 100 epochs. How it is called: see runs/shipped.bash.
source "$(dirname "$0")/shipped.bash"
sections=$runs/mnist-gray.md
if [ "$recipe" = full ]; then
    pixelcnn train mnist --levels 256 --preset best --model gated --filters 48 --layers 12 --out "$runs/mnist-gray"
else
    pixelcnn train mnist --levels 256 --preset fast --model gated --filters 24 --layers 10 --learning-rate 4e-3 \
        --steps 2500 --out "$runs/mnist-gray"
fi
evaluated "On the official test set" "$runs/mnist-gray" mnist:test >"$sections"
ship mnist-gray <"$sections"
