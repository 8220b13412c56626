#!/usr/bin/env bash
# Thresholded MNIST by the Keras example's protocol: trained on the first 63,000 of all images, measured on the last
# 7,000 (the `seed` split). The split that is measured also chooses the best epoch. Options: see runs/literature.bash.
source "$(dirname "$0")/literature.bash"
literature threshold mnist mnist:seed-validation gated --protocol seed
