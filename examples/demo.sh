#!/usr/bin/env bash
# Erases nine artists, restores one of them in an export, and proves both. Run it with `make demo`,
# or with shiftreg on the PATH: bash examples/demo.sh. It can be run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export SHIFTREG_HOME="${SHIFTREG_HOME:-.shiftreg}"
output=demo
mkdir -p "$output"

artists=(
    "Cezanne" "Van Gogh" "Picasso" "Jackson Pollock" "Caravaggio"
    "Keith Haring" "Kelly McKernan" "Tyler Edlin" "Kilian Eng"
)

# Shows a command as it would be typed, then runs it.
run() {
    printf '\n$'
    printf ' %q' "$@"
    printf '\n'
    "$@"
}

run shiftreg erase "${artists[@]}" --reason "demonstration"
run shiftreg generate "${artists[@]}" --seeds 0,1 --out "$output/erased.png" --force
run shiftreg generate "Picasso" "a painting of a church by Picasso" "Caravaggio" \
    --without Picasso --seeds 0,1,2 --out "$output/without-picasso.png" --force
run shiftreg compose --without Picasso --export "$output/model.ckpt" --force
run shiftreg verify "$output/model.ckpt"
run shiftreg list

printf '\nLook at %s, %s and %s.\n' \
    "$output/erased.png" "$output/without-picasso.png" "$output/model.ckpt"
printf 'The registry is in %s: shiftreg ui shows it.\n' "$SHIFTREG_HOME"
