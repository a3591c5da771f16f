#!/usr/bin/env bash
# Measures everything on a GPU in less than eight minutes: bash benchmarks/gpu.sh OUT
# Needs jax, flax, optax, jaxtyping, ml_collections, NumPy and PyTorch. Where nothing can be
# downloaded, carry the small ones along:
#   pip install --no-deps --target build/carried jaxtyping wadler_lindig ml_collections
# PEAK and BANDWIDTH are the card's FLOP/s in bfloat16 and bytes/s of memory, by its data sheet; the
# defaults are those of an H100 SXM. With --smoke it runs on CPU, at a tiny size, to show that it works.
set -uo pipefail
cd "$(dirname "$0")/.."
smoke=""
if [ "${1:-}" = --smoke ]; then smoke=1; shift; fi
out=${1:-runs/benchmarks}
mkdir -p "$out"
budget=${BUDGET:-470}  # seconds
export PYTHONPATH="$PWD:$PWD/build/carried${PYTHONPATH:+:$PYTHONPATH}"
export XLA_PYTHON_CLIENT_PREALLOCATE=false  # two frameworks share the memory
python=${PYTHON:-python3}
failed=0

left() { echo $((budget - SECONDS)); }

# What is tried, with what is left of the time; a failure is told and does not stop the rest.
try() {
  local name=$1
  shift
  if [ "$(left)" -lt 20 ]; then
    echo "== $name: left out, no time"
    failed=1
    return
  fi
  echo "== $name (after $SECONDS s)"
  timeout --kill-after=5 "$(left)" "$@" 2>&1 | tee "$out/$name.log"
  [ "${PIPESTATUS[0]}" = 0 ] || { echo "== $name: failed"; failed=1; }
}

timed() {
  local name=$1
  shift
  try "$name" "$python" benchmarks/train_step.py --against=torch --json="$out/$name.json" "$@"
}

try device "$python" -c '
import jax, flax, optax, jaxtyping, ml_collections, torch
print("jax", jax.__version__, jax.devices(), "torch", torch.__version__, torch.cuda.is_available())'
[ "$failed" = 0 ] || { echo "== a library is missing: nothing is measured"; exit 1; }

if [ "$smoke" ]; then
  try parity "$python" tests/torch_reference/parity.py
  timed smoke --sizes=smoke --rounds=1 --seconds=0.1 --peak_flops=1e12 --bandwidth=1e11
  try attention "$python" benchmarks/attention.py --tokens=8 --rows=1 --rounds=1
else
  nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,memory.total --format=csv ||
    { echo "== no GPU: bash benchmarks/gpu.sh --smoke OUT shows on CPU that it works"; exit 1; }
  gpu="--platform=gpu --dtype=bfloat16 --seconds=1"
  gpu="$gpu --peak_flops=${PEAK:-989e12} --bandwidth=${BANDWIDTH:-3.35e12}"
  try parity "$python" tests/torch_reference/parity.py --platform=gpu --tolerance=1e-3
  timed ntu_masked $gpu --sizes=ntu_masked
  timed nw_ucla $gpu --sizes=nw_ucla
  timed ntu_unmasked $gpu --sizes=ntu_unmasked --batch=32
  try attention "$python" benchmarks/attention.py --dtype=bfloat16 --rows=64 --tokens=75,750 --rounds=3
  timed ntu_masked_compiled $gpu --sizes=ntu_masked --compile
  timed nw_ucla_compiled $gpu --sizes=nw_ucla --compile
  timed ntu_unmasked_compiled $gpu --sizes=ntu_unmasked --batch=32 --compile
fi
echo "== done after $SECONDS s; results lie in $out"
exit $failed
