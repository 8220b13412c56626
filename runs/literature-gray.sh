#!/usr/bin/env bash
# MNIST in all its 256 levels, in bits/dim = nats / (784 ln 2), on the official test set. Trained on 55,000 images;
# 5,000 others choose the best epoch. Options: see runs/literature.bash.
source "$(dirname "$0")/literature.bash"
literature gray mnist mnist:test plusplus --levels 256 --places --context-places
