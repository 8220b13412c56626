# What the scripts of the shipped models share; sourced, not run.
#
#     [RECIPE=full] [PYTHON=.venv/bin/python] [DEVICE=auto] [THREADS=N] runs/NAME.sh [FOLDER, by default trained]
#
# RECIPE=short, the default, made the weights in the package, on one or two cores; RECIPE=full is for a GPU. THREADS are
# those that train, by default as many as cores. Either writes the model with its card into src/pixelcnn/pretrained/NAME.
# Stopped, the same command goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
recipe=${RECIPE:-short}
runs=${1:-trained}
case $recipe in short | full) ;; *) echo "RECIPE must be short or full, got $recipe" >&2; exit 2 ;; esac
mkdir -p "$runs"

pixelcnn() { "${PYTHON:-.venv/bin/python}" -m pixelcnn "$@" --device "${DEVICE:-auto}"; }

evaluated() {  # evaluated HEADING RUN DATA OPTIONS...: a section of the card
    local heading=$1
    shift
    printf '\n## %s\n\n`pixelcnn evaluate %s`:\n\n```text\n' "$heading" "$*"
    pixelcnn evaluate "$@"
    printf '```\n'
}

ship() {  # ship NAME <SECTIONS: the model of the run, with the sections at the end of its card, into the package
    local name=$1 target=src/pixelcnn/pretrained/$1
    rm -rf "$target"
    cp -r "$runs/$name/model" "$target"
    cat >>"$target/README.md"
    sed "s|load(\".\")|load(\"$name\")|; s|^license: unknown|license: apache-2.0|; s|$runs/||g
        s|these weights: unknown|these weights: apache-2.0|" "$target/README.md" >"$runs/card.md"
    mv "$runs/card.md" "$target/README.md"  # and not sed -i, which macOS knows by other arguments
}
