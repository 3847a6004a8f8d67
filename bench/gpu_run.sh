#!/usr/bin/env bash
# Every measurement that needs an NVIDIA GPU, in one go: 20 GiB of GPU memory, no weights to
# download. First that the fast path is right on this card, then how fast it is, the most wanted
# first. Planned for 8 minutes without the last two parts, which compile six programs and vision
# each. No card has confirmed that yet; each part has a time limit.
#
#   bench/gpu_run.sh [FOLDER]      results go to FOLDER, by default bench/results
#
# PYTHON names an interpreter with torch for CUDA, this package with what pyproject.toml asks for (pydantic and
# faiss-cpu are the ones that machines with CUDA often lack), pytest and hypothesis (default: .venv's).
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
folder=${1:-bench/results}
mkdir -p "$folder"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
failed=()
run() { # seconds, name, command...
  local seconds=$1 name=$2
  shift 2
  printf '\n== %s\n' "$name"
  local start=$SECONDS
  timeout "$seconds" "$@" || failed+=("$name")
  echo "== $((SECONDS - start)) s"
}

card=$("$python" -c 'import torch; print(torch.cuda.get_device_name(0))' 2>/dev/null) || {
  echo "no CUDA device that PyTorch can use: nothing was measured" >&2
  exit 2
}
slug=$(tr -cs '[:alnum:]' '-' <<<"${card,,}" | sed 's/-*$//')
echo "$card"

# Convolutions round to TF32 by default, which float32 is not held to.
verify=("$python" -m heisd_ros.cli.main model verify test/data/openvla_reference
  test/data/openvla_reference --device cuda --path)
run 150 "fixed shapes, graphs, no waiting" "$python" -m pytest -q -p no:cacheprovider \
  test/vla/test_static_engine.py test/decoding/test_autoregressive.py \
  test/decoding/test_verifier.py -k "gpu and not compiled"
run 60 "upstream's float32 outputs through CUDA graphs" \
  env NVIDIA_TF32_OVERRIDE=0 "${verify[@]}" static --dtype float32
if ((${#failed[@]})); then
  printf '\nnot measured, since this failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
run 60 "upstream's bfloat16 tokens through CUDA graphs" "${verify[@]}" static --dtype bfloat16

bench=("$python" -m heisd_ros.cli.main bench decode --shape openvla-7b --device cuda)
evaluation=bench/results/drawn_starts.json
result="$folder/decode_openvla-7b_$slug"
run 170 "CUDA graphs, bfloat16, with the peer" "${bench[@]}" --rounds 30 \
  --from-eval "$evaluation" --json "$result.json"
for shape in ecot pi0-fast nora; do
  run 60 "passes of $shape, random weights" "$python" -m heisd_ros.cli.main bench decode \
    --shape "$shape" --device cuda --rounds 10 --json "$folder/decode_${shape}_$slug.json"
done
run 90 "compiled passes are right" "$python" -m pytest -q -p no:cacheprovider \
  test/vla/test_static_engine.py -k "gpu and compiled"
run 420 "compiled passes" "${bench[@]}" --rounds 15 --compile inductor --no-peer \
  --json "${result}_compiled.json"
run 420 "compiled passes, int8" "${bench[@]}" --rounds 15 --compile inductor --int8 --no-peer \
  --json "${result}_int8.json"

if ((${#failed[@]})); then
  printf '\nfailed: %s\n' "${failed[@]}" >&2
  exit 1
fi
