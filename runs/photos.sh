#!/usr/bin/env bash
# The shipped model `photos`: photographs in colour, of any size, for the lossless codec. Fetches them first, from Debian's
# packages (see runs/photos_data.py). RECIPE=short for an hour of one core, RECIPE=full for ten times that. How it is
# called: see runs/shipped.bash.
source "$(dirname "$0")/shipped.bash"
photographs=$runs/photographs sections=$runs/photos.md
"${PYTHON:-.venv/bin/python}" runs/photos_data.py "$photographs"
steps=5000
if [ "$recipe" = full ]; then steps=50000; fi
pixelcnn train "$photographs/train" --model photo --filters 64 --blocks 5 --patch 64 --flip --held-out 0.01 \
    --steps "$steps" --batch-size 12 --optimizer adam --learning-rate 5e-3 --schedule cosine --warmup-steps 100 \
    --clip-norm 1 --ema 0.999 --sample-images 0 ${THREADS:+--threads "$THREADS"} --out "$runs/photos"
{
    cat <<'TEXT'

## Photographs

29 photographs of the Debian packages lomiri-wallpapers-16.04 and -20.04, mate-backgrounds and
plasma-workspace-wallpapers, shrunk by 3 to 6; 8 others were held out. runs/photos.csv names them, with their authors,
licences (GPL-2+, CC BY 4.0, CC BY-SA 3.0 and 4.0, CC0) and hashes. It is for compression.
What it draws at `--temperature 0.85` is shapes and texture; at 1, an improbable value sooner or later leads it into noise
of a kind that it has never seen.
TEXT
    evaluated "On the photographs that were held out" "$runs/photos" "$photographs/held-out" --crop none
    evaluated "On photographs of another source" "$runs/photos" "$photographs/other" --crop none
} >"$sections"
ship photos <"$sections"
