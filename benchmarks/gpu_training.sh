#!/usr/bin/env bash
# Trains configs/ntu60.py on a GPU for some minutes, with its KNN: bash benchmarks/gpu_training.sh OUT
# It generates CLIPS synthetic clips of 25 joints and at most two bodies, and trains for at most
# MINUTES. EPOCHS sets the schedule: 40 epochs of 20,000 clips, half of which train, are about 3,100
# steps. That is 4.5 minutes at the 87 ms a step of docs/performance.md. A run that MINUTES end is
# saved and judged as it is. One that a signal ends is saved too, and the same command resumes it.
# With --smoke it runs on any device, at a tiny size, to show that it works.
set -euo pipefail
cd "$(dirname "$0")/.."
config=configs/ntu60.py clips=${CLIPS:-20000} epochs=${EPOCHS:-40} minutes=${MINUTES:-8} smoke=""
if [ "${1:-}" = --smoke ]; then
  shift
  config=configs/ntu60.py:smoke clips=100 epochs=2 smoke=1
fi
out=${1:-runs/benchmarks}
store=$out/clips-$clips run=$out/run-$clips-$epochs
mkdir -p "$out"
python=${PYTHON:-python3}
[ "$smoke" ] || "$python" -c 'import jax; jax.devices("gpu")' 2> /dev/null ||
  { echo "== no GPU: bash benchmarks/gpu_training.sh --smoke OUT shows on CPU that it works"; exit 1; }

echo "== $clips synthetic clips"
[ -e "$store/meta.json" ] ||
  "$python" experiments/prepare_data.py --dataset=synthetic --num_clips="$clips" --out="$store"

echo "== training (after $SECONDS s)"
timeout --signal=TERM --kill-after=60 "$((60 * minutes))" "$python" experiments/pretrain.py \
  --config="$config" --config.data.dataset=synthetic --config.data.path="$store" \
  --config.data.protocol=xsub --config.train.epochs="$epochs" \
  --config.optimizer.warmup_epochs="$((epochs / 8 + 1))" \
  --config.objective.ramp_epochs="$((epochs / 8 + 1))" \
  --config.train.knn_every="$((epochs / 4 + 1))" \
  --config.train.checkpoint_every="$((epochs / 4 + 1))" --run="$run" &
training=$!
# `timeout` has a process group of its own, so signals must be passed on.
trap 'kill -TERM "$training" 2> /dev/null || true' INT TERM
while kill -0 "$training" 2> /dev/null; do wait "$training" || true; done  # a signal ends `wait` early
code=0
wait "$training" || code=$?
trap - INT TERM
case $code in
  0) ;;
  124) echo "== the run was stopped after $minutes minutes, and is judged as it is" ;;
  75) echo "== the run was stopped and saved; the same command resumes it"; exit 75 ;;
  *) echo "== training failed with $code"; exit "$code" ;;
esac

echo "== KNN (after $SECONDS s)"
"$python" experiments/knn.py --run="$run" --baselines
echo "== done after $SECONDS s; the run lies in $run"
