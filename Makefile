# Everything needs only git and Python >= 3.11: each target makes .venv itself where it is missing.
PYTHON ?= python3
# Another interpreter gets an environment of its own, so that both can be kept.
VENV ?= $(if $(filter python3,$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
BIN = $(VENV)/bin

.PHONY: demo test soak parity lint clean help

help:
	@echo "make demo   install, make synthetic clips, pre-train, probe, report: a few minutes on 2 cores"
	@echo "make test   install, run the tests: 7 to 15 minutes on 2 cores; PYTHON=python3.12 chooses another interpreter"
	@echo "make soak   run the slow tests: a run is killed twenty times, 5 minutes on 2 cores"
	@echo "make parity install PyTorch (from 200 MB without CUDA to 4 GB with it) and ONNX, hold ours against them"
	@echo "make lint   ruff, and pyright over igm_jax: 1 minute"
	@echo "make clean  remove $(VENV)"

$(VENV)/.installed: setup.py
	@echo "== $(PYTHON): making $(VENV) and installing igm_jax with its test extra"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

demo: $(VENV)/.installed
	@test -d data/synthetic || { echo "== 1/5 making synthetic clips"; \
		$(BIN)/python experiments/prepare_data.py --dataset=synthetic --out=data/synthetic; }
	@echo "== 2/5 pre-training (interrupt with Ctrl-C; the same command resumes it)"
	$(BIN)/python experiments/pretrain.py --config=configs/synthetic.py
	@echo "== 3/5 linear probe"
	$(BIN)/python experiments/linear_probe.py --run=runs/synthetic-xsub --baselines
	@echo "== 4/5 nearest neighbours"
	$(BIN)/python experiments/knn.py --run=runs/synthetic-xsub --baselines
	@echo "== 5/5 report"
	$(BIN)/python experiments/report.py runs/synthetic-xsub

test: $(VENV)/.installed
	@echo "== tests, doctests and README blocks"
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=10

soak: $(VENV)/.installed
	@echo "== slow tests"
	$(BIN)/python -m pytest -m slow

# The version that ours was last measured against; another by TORCH=torch==2.14.*
TORCH ?= torch==2.13.*
parity: $(VENV)/.installed
	@echo "== parity with PyTorch and onnxruntime, layer by layer and step by step"
	$(BIN)/python -m pip install --quiet '$(TORCH)' onnx onnx-ir onnxruntime
	$(BIN)/python -m pip install --quiet --no-deps jax2onnx
	$(BIN)/python -m pytest tests/torch_reference tests/benchmarks/test_train_step.py tests/evaluation/test_export.py tests/evaluation/test_import_weights.py

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV)
