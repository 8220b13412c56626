#!/usr/bin/env bash
# Dynamically binarised MNIST: every epoch draws every pixel anew, 1 with probability grey / 255; measured on the
# official test set drawn once with seed 0, whose SHA-256 is in docs/results.md. Trained on 55,000 images; 5,000 others,
# drawn once, choose the best epoch. Options: see runs/literature.bash.
source "$(dirname "$0")/literature.bash"
literature dynamic mnist-dynamic mnist-dynamic:test gated
