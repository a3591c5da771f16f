#!/usr/bin/env bash
# Trains configs/ntu60.py on a GPU for some minutes, with its KNN: bash benchmarks/gpu_training.sh OUT
# It generates CLIPS synthetic clips of 25 joints and two bodies, and trains for at most MINUTES.
# EPOCHS sets the schedule: 40 epochs of 20,000 clips are about eight minutes on an H100. A run that
# is stopped before its end is saved and judged as it is; the same command resumes it.
# With --smoke it runs on any device, at a tiny size, to show that it works.
set -euo pipefail
cd "$(dirname "$0")/.."
config=configs/ntu60.py clips=${CLIPS:-20000} epochs=${EPOCHS:-40} minutes=${MINUTES:-8}
if [ "${1:-}" = --smoke ]; then shift; config=configs/ntu60.py:smoke clips=100 epochs=2; fi
out=${1:-runs/benchmarks}
mkdir -p "$out"
python=${PYTHON:-python3}

echo "== $clips synthetic clips"
[ -e "$out/clips/meta.json" ] || "$python" experiments/prepare_data.py --dataset=synthetic --num_clips="$clips" --out="$out/clips"
echo "== training (after $SECONDS s)"
code=0
timeout --signal=TERM --kill-after=60 "$((60 * minutes))" "$python" experiments/pretrain.py \
  --config="$config" --config.data.dataset=synthetic --config.data.path="$out/clips" \
  --config.data.protocol=xsub --config.train.epochs="$epochs" \
  --config.optimizer.warmup_epochs="$((epochs / 8 + 1))" \
  --config.objective.ramp_epochs="$((epochs / 8 + 1))" --config.train.knn_every="$((epochs / 4 + 1))" \
  --config.train.checkpoint_every="$((epochs / 4 + 1))" --run="$out/run" || code=$?
case $code in
  0) ;;
  75 | 124) echo "== the run was stopped after $minutes minutes, and is judged as it is" ;;
  *) echo "== training failed with $code"; exit "$code" ;;
esac
echo "== KNN (after $SECONDS s)"
"$python" experiments/knn.py --run="$out/run" --baselines
echo "== done after $SECONDS s; the run lies in $out/run"
