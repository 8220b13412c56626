#!/usr/bin/env bash
# The shipped model `mnist-gray`: MNIST in its 256 levels, a network that sees the whole picture and reads a level by a
# learned vector. RECIPE=short: 108 minutes of one core (THREADS=1), beside other work. RECIPE=full: the preset `best`,
# three hours. How it is called: see runs/shipped.bash.
source "$(dirname "$0")/shipped.bash"
sections=$runs/mnist-gray.md
minutes=108
if [ "$recipe" = full ]; then minutes=; fi
pixelcnn train mnist --levels 256 --preset best --embedding 12 --first-kernel 9 --layers 6 --kernel-size 5 5 3 3 3 \
    ${minutes:+--minutes "$minutes"} ${THREADS:+--threads "$THREADS"} --out "$runs/mnist-gray"
evaluated "On the official test set" "$runs/mnist-gray" mnist:test >"$sections"
ship mnist-gray <"$sections"
