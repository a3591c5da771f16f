import os
import pickle
import re

import numpy as np
import pytest
from clip_samples import content

from igm_jax.data import protocols
from igm_jax.data.formats import ntu60, ntu120, pyskl_pkl
from igm_jax.data.formats.prepare import prepare_store
from igm_jax.data.formats.sources import FORMATS
from igm_jax.data.pipeline import full_clips
from igm_jax.data.store import BadClip, Clip, SkeletonStore
from igm_jax.errors import InputError
from igm_jax.reading import Reading
from igm_jax.skeleton import COCO17, NTU25

NTU_NAMES = [
    f"S{s:03d}C{c:03d}P{p:03d}R001A{a:03d}"
    for s in (1, 2)
    for c in (1, 2, 3)
    for p in (1, 2, 3)
    for a in (1, 50)
]
OTHER_NAMES = [f"brush_hair/video_{i}_np1" for i in range(12)]


def annotation(name, label, joints=(17, 2), seed=0, bodies=1, length=9, dtype=np.float16):
    rng = np.random.default_rng(seed)
    frames = rng.uniform(1, 1000, size=(bodies, length, *joints)).astype(dtype)
    facts = {"frame_dir": name, "label": label, "total_frames": length, "keypoint": frames}
    if joints[1] == 2:
        score = np.ones(frames.shape[:3], np.float16)
        facts |= {"img_shape": (1080, 1920), "original_shape": (1080, 1920)}
        facts["keypoint_score"] = score
    return facts


def ntu(joints=(17, 2), **kwargs):
    """All names of NTU RGB+D, of which every fifth clip has two bodies."""
    return [
        annotation(name, int(name[-3:]) - 1, joints, i, 1 + (i % 5 == 0), 5 + i, **kwargs)
        for i, name in enumerate(NTU_NAMES)
    ]


def other():
    return [annotation(name, i % 3, seed=i) for i, name in enumerate(OTHER_NAMES)]


NTU_SPLIT = {
    "xsub_train": [n for n in NTU_NAMES if "P003" not in n],
    "xsub_val": [n for n in NTU_NAMES if "P003" in n],
    "xview_train": [n for n in NTU_NAMES if "C001" not in n],
    "xview_val": [n for n in NTU_NAMES if "C001" in n],
}
THREE_SPLITS = {
    key: names
    for i in (1, 2, 3)
    for key, names in ((f"train{i}", OTHER_NAMES[i:9]), (f"test{i}", OTHER_NAMES[9:]))
}


def put(folder, annotations, split=None, protocol=2, name="a.pkl", **more):
    """Protocol 2 is that of the genuine files."""
    path = folder / name
    held = {"split": split, "annotations": annotations, **more}
    path.write_bytes(pickle.dumps(held, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("joints", [(17, 2), (25, 3)])
def test_round_trip(joints, protocol, tmp_path):
    annotations = ntu(joints)
    raw = pyskl_pkl.read(put(tmp_path, annotations, NTU_SPLIT, protocol))
    clips = list(raw)
    for clip, facts in zip(clips, annotations, strict=True):
        name = facts["frame_dir"]
        numbers = (int(name[9:12]), int(name[5:8]), int(name[1:4]), 0)
        frames = facts["keypoint"].astype(np.float32)
        assert clip == Clip(name, frames, facts["label"], *numbers)
        assert clip.frames.dtype == np.float32
    assert (raw.layout, raw.units) == {
        17: (COCO17, "pixels"),
        25: (NTU25, "metres"),
    }[joints[0]]
    assert raw.class_names == ntu60.CLASS_NAMES
    assert list(raw) == clips


def test_protocols_of_ntu_go_by_the_names(tmp_path):
    """Performers 1 and 2 train, 3 is tested; the lists say the same."""
    prepare_store(tmp_path / "s", pyskl_pkl.read(put(tmp_path, ntu(), NTU_SPLIT)), source="t")
    store = SkeletonStore.open(tmp_path / "s")
    for name in ("xsub", "xview"):
        for part, key in (("train", f"{name}_train"), ("test", f"{name}_val")):
            chosen = protocols.split(store, name, part)
            assert store.clips["name"][chosen].tolist() == NTU_SPLIT[key]
    assert set(store.clips["setup"][protocols.split(store, "xset", "train")]) == {2}
    with pytest.raises(InputError, match="has no split, protocol 'split' cuts by it"):
        protocols.split(store, "split", "train")


def test_subjects_of_ntu_120_cut_ntu_60_as_its_own_do():
    """So one protocol serves the files of both."""
    of_60, of_120 = (protocols.PROTOCOLS[name]["xsub"] for name in ("ntu60", "ntu120"))
    assert protocols.PROTOCOLS["pyskl_pkl"]["xsub"] == of_120
    assert [of_60.trains_on(s) for s in range(1, 41)] == [of_120.trains_on(s) for s in range(1, 41)]


def test_actions_beyond_60_are_those_of_ntu_120(tmp_path):
    name = "S018C001P008R001A061"
    raw = pyskl_pkl.read(put(tmp_path, [annotation(name, 60)]))
    assert raw.class_names == ntu120.CLASS_NAMES


def test_one_pair_of_lists_is_taken(tmp_path):
    for test in ("val", "test"):
        split = {"train": OTHER_NAMES[:8], test: OTHER_NAMES[8:]}
        clips = list(pyskl_pkl.read(put(tmp_path, other(), split)))
        assert [clip.split for clip in clips] == [1] * 8 + [2] * 4
        assert [clip.facts[2:5] for clip in clips] == [(0, 0, 0)] * 12
    raw = pyskl_pkl.read(put(tmp_path, other(), split))
    assert raw.class_names == ("class 0", "class 1", "class 2")


def test_several_pairs_are_chosen_from(tmp_path):
    path = put(tmp_path, other(), THREE_SPLITS)
    told = "several splits: choose the list to train on with --split: train1, train2, train3"
    with pytest.raises(InputError, match=f"^{path}: it has {told}"):
        pyskl_pkl.read(path)
    with pytest.raises(InputError, match=r"--split=train4 is unknown: choose .*train1, train2"):
        pyskl_pkl.read(path, split="train4")
    with pytest.raises(InputError, match="--split=test1 is unknown"):
        pyskl_pkl.read(path, split="test1")
    clips = list(pyskl_pkl.read(path, split="train2"))
    told = "is in neither list of the split"
    assert clips[:2] == [BadClip(name, told, published=True) for name in OTHER_NAMES[:2]]
    assert [clip.split for clip in clips[2:]] == [1] * 7 + [2] * 3
    of_ntu = pyskl_pkl.read(put(tmp_path, ntu(), NTU_SPLIT), split="xview_train")
    assert [clip.split for clip in of_ntu] == [2 if "C001" in n else 1 for n in NTU_NAMES]


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ({"train": ["a", "b"], "val": ["b"]}, "'b' is in 'train' and in 'val'"),
        ({"train": "ab", "val": ["b"]}, "split 'train' is no list of names"),
        ({"train": ["a"], "val": [3]}, "split 'val' is no list of names"),
    ],
)
def test_damaged_lists(split, told, tmp_path):
    with pytest.raises(InputError, match=told):
        pyskl_pkl.read(put(tmp_path, [annotation("a", 0)], split))


def test_without_lists_there_is_no_split(tmp_path):
    for split in (None, {}, {"train": ["a"]}, "train", {1: 2, "strange": []}):
        (clip,) = pyskl_pkl.read(put(tmp_path, [annotation("a", 0)], split))
        assert clip.split == 0


def changed(**changes):
    facts = annotation("bad", 1) | changes
    return {key: value for key, value in facts.items() if value is not None}


FRAMES = annotation("x", 0)["keypoint"]
DAMAGED = {
    "no dict": ([1, 2], "annotation 1", "frame_dir is not 1 to 256 printable"),
    "no name": (changed(frame_dir=None), "annotation 1", "frame_dir is not 1 to 256 printable"),
    "newline": (changed(frame_dir="a\nb"), "annotation 1", "frame_dir is not 1 to 256 printable"),
    "long": (changed(frame_dir="a" * 9999), "annotation 1", "frame_dir is not 1 to 256"),
    "no label": (changed(label=None), "bad", "label NoneType is no number from 0 to 9999"),
    "label": (changed(label=-1), "bad", "label -1 is no number"),
    "high": (changed(label=10**9), "bad", "label 1000000000 is no number"),
    "endless": (changed(label=10**9999), "bad", "label int is no number"),
    "text": (changed(label=[[["x"]]]), "bad", "label list is no number"),
    "action": (
        changed(frame_dir=NTU_NAMES[0]),
        NTU_NAMES[0],
        "label 1 is action 2, its name says 1",
    ),
    "no keypoint": (changed(keypoint=None), "bad", "has no keypoint array"),
    "list": (changed(keypoint=FRAMES.tolist()), "bad", "has no keypoint array"),
    "axes": (changed(keypoint=FRAMES[0]), "bad", "has no keypoint array"),
    "truth": (changed(keypoint=FRAMES > 0), "bad", "has no keypoint array"),
    "joints": (changed(keypoint=FRAMES[:, :, :16]), "bad", r"shape \[1, 9, 16, 2\]"),
    "space": (changed(keypoint=np.ones((1, 9, 25, 3))), "bad", r"shape \[1, 9, 25, 3\]"),
    "length": (changed(total_frames=10), "bad", "keypoint has 9 frames, not total_frames"),
    "nobody": (changed(keypoint=FRAMES[:0]), "bad", "it has no body"),
    "zero": (changed(keypoint=FRAMES * 0), "bad", "shows nobody"),
    "scores": (changed(keypoint_score=FRAMES[..., 0] * 0), "bad", "shows nobody"),
    "score": (changed(keypoint_score=FRAMES), "bad", r"keypoint_score is no array \[1, 9, 17\]"),
    "low": (changed(keypoint_score=np.eye(9, 17)[None]), "bad", "94% of its joints are missing"),
    "crowd": (
        changed(keypoint=np.zeros((1 << 40, 0, 17, 2)), total_frames=0),
        "bad",
        "it has no frame",
    ),
    "empty": (changed(keypoint=FRAMES[:, :0], total_frames=0), "bad", "it has no frame"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_annotation_is_named_and_the_rest_goes_on(name, tmp_path):
    facts, bad_name, told = DAMAGED[name]
    first, last = annotation("first", 0), annotation("last", 2)
    good, bad, also = pyskl_pkl.read(put(tmp_path, [first, facts, last]))
    assert (good.name, also.name) == ("first", "last")
    assert isinstance(bad, BadClip) and bad.name == bad_name
    assert re.search(told, bad.reason), bad.reason
    assert len(bad.reason) < 200


def test_numbers_of_numpy_are_numbers(tmp_path):
    facts = annotation("a", np.int64(3)) | {"total_frames": np.int32(9)}
    (clip,) = pyskl_pkl.read(put(tmp_path, [facts]))
    assert clip.label == 3


def test_joints_of_low_score_are_filled(tmp_path):
    facts = annotation("a", 0, length=4, dtype=np.float32)
    facts["keypoint"][0, 1, 5] = 0  # as HRNet's lists have it beside a score of 0
    facts["keypoint_score"][0, 1, 5] = 0
    facts["keypoint_score"][0, 3, 2] = 0.25
    path, frames = put(tmp_path, [facts]), facts["keypoint"]
    expected = frames.copy()
    expected[0, 1, 5] = (frames[0, 0, 5] + frames[0, 2, 5]) / 2
    (clip,) = pyskl_pkl.read(path)
    np.testing.assert_allclose(clip.frames, expected, rtol=1e-6)
    assert clip.filled == tuple(int(j == 5) for j in range(17))
    expected[0, 3, 2] = frames[0, 2, 2]
    (clip,) = pyskl_pkl.read(path, min_score=0.3)
    np.testing.assert_allclose(clip.frames, expected, rtol=1e-6)
    assert clip.filled == tuple(int(j in (2, 5)) for j in range(17))
    fingerprints = {pyskl_pkl.read(path, min_score=s).fingerprint() for s in (0.0, 0.2, 0.3)}
    assert len(fingerprints) == 3  # so a killed run with another threshold is not taken up


@pytest.mark.parametrize("first", ["axes", "joints", "space", "list", "no keypoint", "no dict"])
def test_damaged_first_annotation_costs_itself_alone(first, tmp_path):
    good = [annotation(f"clip {i}", i % 2, seed=i) for i in range(4)]
    bad, *clips = pyskl_pkl.read(put(tmp_path, [DAMAGED[first][0], *good]))
    assert isinstance(bad, BadClip)
    assert [clip.name for clip in clips] == [facts["frame_dir"] for facts in good]


def test_damaged_name_leaves_the_protocols_of_ntu(tmp_path):
    """One name that is cut short made the file one of unknown people."""
    annotations = ntu()
    annotations[0]["frame_dir"] = NTU_NAMES[0][:-1]
    raw = pyskl_pkl.read(put(tmp_path, annotations, NTU_SPLIT))
    bad, *clips = raw
    assert bad == BadClip(
        NTU_NAMES[0][:-1], "is no name SsssCcccPpppRrrrAaaa, as almost all others have it"
    )
    assert len(clips) == len(annotations) - 1 and raw.class_names == ntu60.CLASS_NAMES


def test_gaps_are_filled_and_absent_bodies_absent(tmp_path):
    facts = annotation("a", 0, bodies=3, length=6)
    frames = facts["keypoint"]
    frames[1] = 0
    frames[:, 3] = 0
    frames[2, 1] = 0
    (clip,) = pyskl_pkl.read(put(tmp_path, [facts]))
    expected = np.delete(np.delete(frames, 3, axis=1), 1, axis=0).astype(np.float32)
    expected[1, 1] = expected[1, 0]
    assert np.array_equal(clip.frames, expected)


def test_other_joints_are_refused(tmp_path):
    facts = annotation("a", 0, joints=(18, 2))
    with pytest.raises(InputError, match=r"of shape \[1, 9, 18, 2\]: 17 joints .*custom"):
        pyskl_pkl.read(put(tmp_path, [facts]))
    with pytest.raises(InputError, match=r"keypoints are none of \[M, T, V, C\]"):
        pyskl_pkl.read(put(tmp_path, [{"frame_dir": "a"}, 3]))


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ([], "is no dict with a list of annotations: download"),
        ({"split": {}}, "is no dict with a list of annotations"),
        ({"annotations": {}}, "is no dict with a list of annotations"),
        ({"annotations": []}, "is no dict with a list of annotations"),
        ({"annotations": [annotation("a", 0)], "x": Evil()}, "posix.system.*nothing in it was"),
        ({"annotations": [{"keypoint": np.array([[[[Evil()]]]])}]}, "refused"),
    ],
)
def test_other_pickles_are_refused(held, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(held, 2))
    with pytest.raises(InputError, match=told) as error:
        pyskl_pkl.read(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    assert not (tmp_path / "executed").exists()


def test_workers_change_no_byte(tmp_path):
    path = put(tmp_path, [*ntu(), changed()], NTU_SPLIT)
    for workers in (1, 2):
        raw = pyskl_pkl.read(path, split="xsub_train")
        prepare_store(tmp_path / str(workers), raw, source="t", workers=workers)
    assert content(tmp_path / "1") == content(tmp_path / "2")
    assert pyskl_pkl.read(path, "xsub_train").fingerprint() == raw.fingerprint()
    assert pyskl_pkl.read(path, "xview_train").fingerprint() != raw.fingerprint()


def test_poses_in_the_plane_have_coordinates(tmp_path):
    prepare_store(tmp_path / "s", pyskl_pkl.read(put(tmp_path, ntu(), NTU_SPLIT)), source="t")
    store = SkeletonStore.open(tmp_path / "s")
    clips, _ = full_clips(store, np.arange(4), Reading(store.layout, "centred", 5, 1))
    assert clips.shape == (4, 1, 5, 17, 2)
    assert not clips[0, 0, 0, COCO17.origin].any()
    assert COCO17.joints[COCO17.origin] == "nose"
    assert COCO17.origin not in {joint for pair in COCO17.pairs for joint in pair}
    with pytest.raises(InputError, match='use coordinates "centred"'):
        full_clips(store, np.arange(4), Reading(store.layout, "body", 5, 1))


def test_missing_files_say_how_to_get_them(tmp_path):
    for source in (tmp_path, tmp_path / "nowhere.pkl"):
        with pytest.raises(InputError, match=f"^{source}: no such file: .*--dataset=pyskl_pkl"):
            pyskl_pkl.read(source)
    assert FORMATS["pyskl_pkl"] is pyskl_pkl
