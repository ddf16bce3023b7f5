#!/usr/bin/env bash
# Checks and times sconce on this machine's GPU: the kernel tests on that adapter, the seven peer models beside PyTorch on the
# same card, products of growing size against the card's peak, uploads against plain copies. Prints one table and writes JSON.
#
#   tools/gpu_check.sh                          # builds with cargo, makes the models with torch, takes gpu:0; without
#                                               # torch and --models only tests, products and uploads are left
#   tools/gpu_check.sh --software --quick       # the same on a software adapter, at small sizes
#   tools/gpu_check.sh --prepare DIR            # puts what it runs into DIR, for a machine without cargo:
#   tools/gpu_check.sh --bin-dir DIR            # runs that there
#
# --adapter NAME   a part of the adapter's name        --models DIR    NAME.pt, NAME.x.npy, NAME.y.npy (made when missing)
# --batch 1,32     the batches                         --python PY     the python with torch [python3]
# --vulkan DIR     where libvulkan.so.1 is             --out FILE      the JSON [benches/results/DATE-ADAPTER.json]
# --skip-tests, --skip-torch, --only NAME,...          leave parts out
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bins="" prepare="" python=python3 args=()
while [ $# -gt 0 ]; do
    case $1 in
        --bin-dir) bins=$2; shift 2 ;;
        --prepare) prepare=$2; shift 2 ;;
        --python) python=$2; shift 2 ;;
        --vulkan) export LD_LIBRARY_PATH=$2${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; shift 2 ;;
        --help|-h) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 0 ;;
        *) args+=("$1"); shift ;;
    esac
done

command -v "$python" > /dev/null || { echo "there is no $python here: give --python" >&2; exit 2; }

# The command, the tests of the library and the bench, all as release builds.
build() {
    local into=$1 list
    command -v cargo > /dev/null || { echo "there is no cargo here: give --bin-dir" >&2; exit 2; }
    mkdir -p "$into"
    (cd "$root" && cargo build --release --quiet --features cli --bin sconce)
    list=$(cd "$root" && cargo test --release --quiet --no-run --lib --bench gpu --message-format=json-render-diagnostics |
        "$python" -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable"):
        print(message["target"]["name"], message["executable"])')
    cp "$("$python" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])' < <(cd "$root" && cargo metadata --format-version 1 --no-deps))/release/sconce" "$into/sconce"
    while read -r name path; do
        case $name in
            sconce) cp "$path" "$into/sconce-tests" ;;
            gpu) cp "$path" "$into/sconce-gpu-bench" ;;
        esac
    done <<< "$list"
}

if [ -n "$prepare" ]; then
    build "$prepare"
    [ "$(uname)" != Linux ] || strip "$prepare"/sconce* 2> /dev/null || true
    ls -l "$prepare"
    exit 0
fi
if [ -z "$bins" ]; then
    bins=$(mktemp -d)
    trap 'rm -rf "$bins"' EXIT
    build "$bins"
fi
"$python" "$root/tools/gpu_check.py" --bin-dir "$bins" ${args[@]+"${args[@]}"}
