"""Fine-tunes a run on shares of the labels; validation clips choose, test clips are judged once.

For every subset of the labels each learning rate is trained on the part "fit". The rate and the
milestone with the best accuracy on "val" are chosen. A classifier is then trained with them on
"train", and judged on "test" after its last step.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np

from igm_jax import parallel, run_folder
from igm_jax.data import SkeletonStore, protocols
from igm_jax.errors import InputError
from igm_jax.evaluation.parts import percent
from igm_jax.evaluation.run import Run
from igm_jax.evaluation.scores import Scores, checksums, save_finetuned
from igm_jax.evaluation.transfer import described
from igm_jax.finetuning.config import FinetuneConfig
from igm_jax.finetuning.head import save_facts
from igm_jax.finetuning.labels import labelled, with_label
from igm_jax.finetuning.loop import Labelled, Trained, Trial, accuracy, predicted, train
from igm_jax.finetuning.program import Program, build_program
from igm_jax.training import claim, memory
from igm_jax.training.mapping import from_mapping, to_mapping

# Of the settings in config.json, those with other values of which it is the same run.
BOOKKEEPING = frozenset({"parent.folder", "config.parallel", "subsets"})


@dataclasses.dataclass(frozen=True)
class Choice:
    """A learning rate and a milestone, and the validation accuracy that chose them."""

    learning_rate: float
    milestone: int
    accuracy: float


def finetune(
    run: Run,
    store: SkeletonStore,
    folder: pathlib.Path,
    config: FinetuneConfig,
    *,
    labels: str = run_folder.ALL_LABELS,
    subsets: Sequence[int] = (0,),
    scratch: bool = False,
    resume: str = "auto",
    devices: list[parallel.Device] | None = None,
) -> str:
    """Fine-tunes a run on one or more subsets of the labels; starts or resumes.

    Args:
      run: the pre-training run.
      store: its data.
      folder: gets config.json, environment.json, results.json, and subset-S/ with result.json,
        scores.npz, head.json and the trials.
      config: settings.
      labels: "100%", or a key of `few_labels.SUBSETS`.
      subsets: seeds of the subsets; with 100 % of the labels, of the training alone.
      scratch: start from a random encoder, as the control.
      resume: "auto" resumes a run of the same settings, "never" refuses an existing run.
      devices: devices to train on; all by default.

    Returns:
      "finished", or the name of the signal that stopped the run after it was saved.

    Raises:
      InputError: the settings do not fit the run or the data, or the folder holds something else.
      MemoryError: a step needs more memory than there is; says which settings need less.
      DivergedError: a loss that is not finite.
    """
    with claim.held(folder):
        parts = {seed: _parts(run, store, labels, seed) for seed in subsets}
        with_label(run, store, "test")  # that there are any; they are judged after the training
        clips = max(len(part["train"]) for part in parts.values())
        advice = functools.partial(config.memory_advice, clips)
        with memory.one_line_out_of_memory(advice, devices):
            program = build_program(
                config, run, len(store.class_names), scratch=scratch, devices=devices
            )
            stated = {
                "parent": parent_of(run),
                "from": "scratch" if scratch else "parent",
                "labels": labels,
                # An older version drew the few of fit by themselves, which is another study.
                **({} if labels == run_folder.ALL_LABELS else {"drawn_from": "train"}),
                "subsets": list(subsets),
                "stretches": run.config.model.encoder.stretches,
                "config": to_mapping(config),
            }
            _claim(folder, stated, resume)
            for seed, part in parts.items():
                own = folder / run_folder.subset_folder(seed)
                if stopped := _Subset(own, seed, part, program, config, run, store).finish():
                    return stopped
            _save_results(folder, run, store, labels, scratch)
    return "finished"


def parent_of(run: Run) -> dict[str, Any]:
    """Folder, step, config hash and data checksums of a run, as fine-tuning records them.

    A transferred run adds `transfer`, on the data that it reads now.
    """
    of = run.origin or run
    text = json.dumps(to_mapping(of.config), sort_keys=True)
    return {
        "folder": str(of.folder.absolute()),
        "step": of.step,
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "data": of.data,
        **described(run),
    }


def choose(judged: Sequence[tuple[float, Sequence[float]]]) -> Choice:
    """The rate and milestone of the best validation accuracy.

    Of equal ones the latest milestone counts, where the rate has decayed most, then the first rate.

    Args:
      judged: (learning rate, accuracy at each milestone) of each rate.

    >>> choose([(0.1, [0.5, 0.9, 0.9]), (0.3, [0.9, 0.2, 0.1])])
    Choice(learning_rate=0.1, milestone=2, accuracy=0.9)
    """
    ranked = [
        (value, milestone, -i)
        for i, (_, accuracies) in enumerate(judged)
        for milestone, value in enumerate(accuracies)
    ]
    value, milestone, i = max(ranked)
    return Choice(judged[-i][0], milestone, value)


def _parts(run: Run, store: SkeletonStore, labels: str, subset: int) -> dict[str, Labelled]:
    """Clips for training and for choices; the test clips are looked up after the training."""
    parts = {part: labelled(run, store, part, labels, subset) for part in ("fit", "train")}
    return parts | {"val": labelled(run, store, "val")}


@dataclasses.dataclass(frozen=True)
class _Subset:
    """The trials of one subset of the labels."""

    folder: pathlib.Path
    seed: int
    parts: dict[str, Labelled]
    program: Program
    config: FinetuneConfig
    run: Run
    store: SkeletonStore

    def finish(self) -> str | None:
        """Chooses, trains and judges, unless that is done; the name of a signal that stopped it."""
        if (self.folder / run_folder.RESULT).exists():
            return None
        judged, temperatures = [], {}
        for rate in self.config.learning_rates:
            trained = self._train(f"fit-{rate:g}", "fit", rate, asked=self.parts["val"])
            if trained.stopped:
                return trained.stopped
            judged.append((rate, trained.accuracies))
            temperatures[rate] = trained.temperatures
        choice = choose(judged)
        trained = self._train(
            run_folder.TRAINED, "train", choice.learning_rate, milestones=choice.milestone + 1
        )
        if trained.stopped:
            return trained.stopped
        # Of the trial that has not seen the validation clips, at the milestone that was chosen.
        temperature = temperatures[choice.learning_rate][choice.milestone]
        clips, stretches = self.parts["train"].indices, self.run.config.model.encoder.stretches
        save_facts(self.folder, self.store, clips, self.config.hidden, stretches, temperature)
        self._judge(choice, trained)
        return None

    def _train(self, name: str, part: str, rate: float, **rest: Any) -> Trained:
        seed = self.config.seed + self.seed
        asked = rest.pop("asked", None)
        trial = Trial(self.folder / name, self.parts[part], asked, rate, seed, **rest)
        return train(trial, self.program, self.config, self.run, self.store)

    def _judge(self, choice: Choice, trained: Trained) -> None:
        """Judges the test clips, and writes scores and result."""
        test = labelled(self.run, self.store, "test")
        logits = predicted(self.program, trained.state, self.store, test.indices, self.run)
        row = {
            "subset": self.seed,
            "clips": len(self.parts["train"]),
            "learning_rate": choice.learning_rate,
            "epochs": trained.epochs,
            "validation_finetune": percent(choice.accuracy),
            "test_finetune": percent(accuracy(logits, test.labels)),
        }
        found = Scores(
            class_names=np.array(self.store.class_names),
            clips=self.store.clips["name"][test.indices].astype(str),
            labels=test.labels,
            scores=logits,
            step=self.run.step,
            protocol=self.run.config.data.protocol,
            streams="+".join(self.run.reading.streams),
            data=checksums(self.run.data),
        )
        save_finetuned(self.folder / run_folder.SCORES, found)
        run_folder.write_json(self.folder / run_folder.RESULT, row)
        for trial in self.folder.glob("fit-*"):  # the choice is made; metrics.jsonl stays
            shutil.rmtree(trial / run_folder.CHECKPOINTS, ignore_errors=True)


def _claim(folder: pathlib.Path, stated: dict[str, Any], resume: str) -> None:
    """Begins a run folder, or checks that it holds a run of the same settings."""
    path = folder / run_folder.CONFIG
    if not path.exists() and not any(folder.glob(run_folder.SUBSETS)):
        return claim.begin(folder, stated)
    saved = claim.saved_config(folder, resume)
    if "parent" not in saved:
        raise InputError(f"{folder} holds a pre-training run: choose another --run")
    # Keys that an older version did not have had the value that is now their default.
    known = to_mapping(from_mapping(FinetuneConfig, saved["config"]))
    saved = {"stretches": 1} | saved | {"config": known}
    claim.check_same_config(folder, saved, stated, BOOKKEEPING)
    run_folder.write_json(path, stated)


def _save_results(
    folder: pathlib.Path,
    run: Run,
    store: SkeletonStore,
    labels: str,
    scratch: bool,
) -> None:
    """Writes results.json: the rows of all finished subsets, their mean and deviation.

    Earlier commands may have finished some. `_claim` has checked that they had the same settings.
    """
    rows = run_folder.subset_results(folder)
    note = protocols.note(store, run.config.data.protocol)
    values = {c: [row[c] for row in rows] for c in ("validation_finetune", "test_finetune")}
    content = {
        "parent": parent_of(run),
        "from": "scratch" if scratch else "parent",
        "labels": labels,
        "protocol": run.config.data.protocol,
        "rows": rows,
        "mean": {c: round(float(np.mean(v)), 2) for c, v in values.items()},
        "deviation": {
            c: round(float(np.std(v, ddof=1)), 2) for c, v in values.items() if len(v) > 1
        },
    }
    run_folder.write_json(folder / run_folder.RESULTS, content | ({"note": note} if note else {}))
