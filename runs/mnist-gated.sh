#!/usr/bin/env bash
# The shipped model `mnist-gated`: MNIST in black and white by class, a gated network. RECIPE=short: 80,000 images,
# forty minutes of one core. RECIPE=full: 100 epochs of a larger one, of at most as many parameters as the seed network, on the
# clean split, and a twin on the `seed` split, for comparison with the Keras example. How it is called: see
# runs/shipped.bash.
source "$(dirname "$0")/shipped.bash"
sections=$runs/mnist-gated.md
full=(--preset best --model gated --conditional --filters 48 --layers 10)
if [ "$recipe" = full ]; then
    pixelcnn train mnist "${full[@]}" --out "$runs/mnist-gated"
    pixelcnn train mnist "${full[@]}" --protocol seed --out "$runs/mnist-gated-seed"
else
    pixelcnn train mnist --preset fast --model gated --conditional --filters 24 --layers 12 --learning-rate 4e-3 \
        --steps 5000 --out "$runs/mnist-gated"
fi
{
    evaluated "On the official test set, given the classes" "$runs/mnist-gated" mnist:test
    evaluated "On the official test set, without them" "$runs/mnist-gated" mnist:test --no-labels
    if [ "$recipe" = full ]; then
        evaluated "A twin trained on the seed split, on its validation set" "$runs/mnist-gated-seed" mnist:seed-validation
        evaluated "The same without the classes" "$runs/mnist-gated-seed" mnist:seed-validation --no-labels
    fi
} >"$sections"
ship mnist-gated <"$sections"
