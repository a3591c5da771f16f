"""Files that others have processed, from the commands of docs/data.md to a trained run."""

import dataclasses
import pickle
import re

import numpy as np
import pytest
from commands import ROOT, experiment, output, run

from igm_jax.data import SkeletonStore, protocols, synthetic

DOCS = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the docs name, of 96 synthetic clips in four classes."""
    folder = tmp_path_factory.mktemp("processed")
    clips = [dataclasses.replace(c, label=c.label % 4) for c in synthetic.generate(96, seed=2)]
    held = {}
    for side, chosen in (("train", clips[:60]), ("test", clips[60:])):
        x = np.zeros((len(chosen), 300, 2, 25, 3), np.float32)
        for row, clip in zip(x, chosen, strict=True):
            row[: clip.frames.shape[1], : len(clip.frames)] = clip.frames.swapaxes(0, 1)
        held[f"x_{side}"] = x.reshape(len(chosen), 300, 150)
        held[f"y_{side}"] = np.eye(60)[[clip.label for clip in chosen]]
    np.savez(folder / "NTU60_XSub.npz", **held)
    joints = [3] * 5 + [4, 8, 5, 9, 6, 10, 12, 16, 13, 17, 14, 18]
    annotations = [
        {
            "frame_dir": f"clip{i}",
            "label": clip.label,
            "total_frames": clip.frames.shape[1],
            "keypoint": (600 + 300 * clip.frames[:, :, joints, :2]).astype(np.float16),
        }
        for i, clip in enumerate(clips)
    ]
    names = [facts["frame_dir"] for facts in annotations]
    split = {"train1": names[:60], "test1": names[60:], "train2": names[36:], "test2": names[:36]}
    with (folder / "hmdb51_hrnet.pkl").open("wb") as file:
        pickle.dump({"split": split, "annotations": annotations}, file, 2)
    return folder


def test_npz_by_the_config_of_ntu(folder):
    """The overrides stand in the docs, broken over lines."""
    source = ("--dataset=mamp_npz", "--source=NTU60_XSub.npz")
    made = output(folder, *experiment("prepare_data.py", *source))
    assert "data/mamp_npz: 96 clips of 4 classes" in made
    assert made.endswith("next: python experiments/pretrain.py --config=configs/mamp_npz.py\n")
    (command,) = re.findall(r"`(--config=configs/ntu60.py\s--config[^`]+)`", DOCS)
    config, *flags = command.split()
    config = f"--config={ROOT}/configs/ntu60.py:smoke"
    short = ("--config.train.epochs=1", "--config.optimizer.warmup_epochs=0.5")
    output(folder, *experiment("pretrain.py", config, *flags, *short, "--run=runs/npz"))
    assert (folder / "runs" / "npz" / "checkpoints").is_dir()


def test_poses_in_the_plane_and_what_to_do_next(folder):
    source = ("--dataset=pyskl_pkl", "--source=hmdb51_hrnet.pkl", "--out=data/hmdb51_1")
    result = run(folder, "prepare_data.py", *source)
    assert result.returncode == 1
    assert result.stderr == (
        "error: hmdb51_hrnet.pkl: it has several splits: choose the list to train on with --split: "
        "train1, train2\n"
    )
    made = output(folder, *experiment("prepare_data.py", *source, "--split=train1"))
    next_command = "--config=configs/pyskl_pkl.py:split --config.data.path=data/hmdb51_1"
    assert made.endswith(f"next: python experiments/pretrain.py {next_command}\n")
    assert next_command in DOCS
    store = SkeletonStore.open(folder / "data" / "hmdb51_1")
    sizes = [len(protocols.split(store, "split", part)) for part in protocols.PARTS]
    assert sizes == [60, 36, 48, 12]
    assert store.frames.shape[1:] == (17, 2)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--dataset=ntu60", "--split=x"), "--split: ntu60 has no lists to choose from"),
        (("--dataset=mamp_npz", "--cleaning=none"), "--cleaning: mamp_npz has no steps to choose"),
        (("--dataset=pyskl_pkl",), "--source is missing: download an annotation file"),
        (("--dataset=pku_mmd",), "--source is missing: request PKU-MMD"),
    ],
)
def test_flags_that_do_not_fit(flags, told, tmp_path):
    result = run(tmp_path, "prepare_data.py", *flags)
    assert result.returncode == 1 and result.stderr.startswith(f"error: {told}")
