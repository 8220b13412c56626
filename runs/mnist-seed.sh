#!/usr/bin/env bash
# The shipped model `mnist-seed`: the network of the Keras example. RECIPE=short: an hour and a half on the clean split,
# 13 epochs on two cores with bf16, by Muon. RECIPE=full: the example's recipe exactly, 50 epochs on the `seed` split (10
# to 18 hours on two cores), and a twin on the clean split, which the official test set is measured with. How it is
# called: see runs/shipped.bash.
source "$(dirname "$0")/shipped.bash"
sections=$runs/mnist-seed.md
seed() { pixelcnn train mnist --preset seed "$@" ${THREADS:+--threads "$THREADS"}; }
if [ "$recipe" = full ]; then
    seed --out "$runs/mnist-seed"
    seed --protocol clean --out "$runs/mnist-seed-clean"
    {
        evaluated "On the seed protocol's validation set" "$runs/mnist-seed" mnist:seed-validation
        evaluated "A twin trained on the clean split, on the official test set" "$runs/mnist-seed-clean" mnist:test
    } >"$sections"
else
    seed --protocol clean --minutes 90 --batch-size 32 --optimizer muon --learning-rate 4e-3 --schedule cosine \
        --warmup-steps 200 --ema 0.9995 --precision auto --out "$runs/mnist-seed"
    {
        evaluated "On the official test set" "$runs/mnist-seed" mnist:test
        evaluated "On the example's validation images" "$runs/mnist-seed" mnist:seed-validation
    } >"$sections"
fi
ship mnist-seed <"$sections"
