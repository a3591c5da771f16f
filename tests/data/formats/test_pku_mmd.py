import functools

import numpy as np
import pytest
from clip_samples import content

from igm_jax.data import protocols
from igm_jax.data.formats import ntu_cleaning, pku_files, pku_mmd
from igm_jax.data.formats.prepare import prepare_store
from igm_jax.data.formats.sources import FORMATS
from igm_jax.data.store import BadClip, Clip, SkeletonStore
from igm_jax.errors import InputError

TRAIN, TEST = ("0002-L", "0002-M", "0002-R"), ("0003-L", "0003-M", "0003-R")
FOLDERS = {
    "flat": ("Data/Skeleton", "Label", "Split", "cross-subject.txt", "cross-view.txt"),
    "renewed": (
        "PKU_Skeleton_Renew",
        "Train_Label_PKU_final",
        ".",
        "cross_subject.txt",
        "cross_view.txt",
    ),
    "second": ("v2/skeleton", "v2/label", "v2", "cross_subject_v2.txt", "cross_view_v2.txt"),
    "prefixed": ("s", "l", "x", "pkuv1_cross_subject.txt", "pkuv1_cross-view.txt"),
}


def text(frames):
    """Skeletons [M, T, 25, 3] as the publisher writes them; nine digits keep a float32."""
    rows = np.zeros((frames.shape[1], 2, 75))
    rows[:, : len(frames)] = frames.swapaxes(0, 1).reshape(frames.shape[1], len(frames), 75)
    return "".join(" " + " ".join(f"{x:.9g}" for x in row.ravel()) + "\n" for row in rows)


def lists(train, test):
    """The misspelt heading, and the comma behind the last name, are the publisher's."""
    return f"Training videos: \n{', '.join(train)}, \n\nValidataion videos: \n{', '.join(test)}, \n"


def video(seed, bodies=1, length=60):
    frames = np.random.default_rng(seed).normal(size=(bodies, length, 25, 3)) * 0.3 + [0, 0, 3]
    return frames.astype(np.float32)


def put(root, videos, labels, folders="flat", train=TRAIN, test=TEST):
    skeleton, label, split, subject, view = FOLDERS[folders]
    for folder in (skeleton, label, split):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, frames in videos.items():
        body = frames if isinstance(frames, str) else text(frames)
        (root / skeleton / f"{name}.txt").write_text(body)
    for name, rows in labels.items():
        (root / label / f"{name}.txt").write_text(rows)
    (root / split / subject).write_text(lists(train, test))
    everything = sorted((*train, *test))
    of_train = [n for n in everything if n[-1] in "MR"]
    of_test = [n for n in everything if n[-1] == "L"]
    (root / split / view).write_text(lists(of_train, of_test))
    return root


@pytest.fixture
def six(tmp_path):
    """Six videos of three cameras, with two actions each."""
    videos = {name: video(i, 1 + i % 2) for i, name in enumerate((*TRAIN, *TEST))}
    return put(tmp_path, videos, dict.fromkeys(videos, "8,0,20,2\n14,25,60,1\n")), videos


@pytest.mark.parametrize("folders", FOLDERS)
def test_round_trip(folders, tmp_path):
    one, two = video(0), video(1, 2)
    videos = {"0002-M": one, "0003-L": two}
    labels = {"0002-M": "8,0,20,2\r\n51,30,60,1\r\n\r\n", "0003-L": "14,5,6,2"}
    raw = pku_mmd.read(put(tmp_path, videos, labels, folders), cleaning=())
    assert list(raw) == [
        Clip("0002-M_001", one[:, 0:20], 7, camera=2, split=1),
        Clip("0002-M_002", one[:, 30:60], 50, camera=2, split=1),
        Clip("0003-L_001", two[:, 5:6], 13, camera=1, split=2),
    ]
    assert raw.layout.name == "ntu25" and raw.units == "metres" and raw.cleaning == ()


def test_names_of_the_second_phase(tmp_path):
    names = ("A01N01-R", "A26N13-L")
    videos = {name: video(i) for i, name in enumerate(names)}
    labels = dict.fromkeys(names, "1,0,60,1")
    raw = pku_mmd.read(put(tmp_path, videos, labels, "second", names[:1], names[1:]))
    assert [(c.name, c.camera, c.split) for c in raw] == [
        ("A01N01-R_001", 3, 1),
        ("A26N13-L_001", 1, 2),
    ]


def test_usual_cleaning_is_that_of_ntu(tmp_path):
    """Nobody in frames 0 to 9, a second body from 20 to 57, the first one lost from 50 to 54."""
    frames = video(0, 2)
    frames[:, :10] = 0
    frames[1, 10:20] = frames[1, 58:] = 0
    frames[0, 50:55] = 0
    put(tmp_path, {"0002-M": frames}, {"0002-M": "1,0,60,1"})
    (clip,) = pku_mmd.read(tmp_path)
    expected = np.concatenate([frames[:1, 10:], frames[1:, 10:]]) - frames[0, 10, 1]
    expected[0, 40:45] = expected[0, 39]
    expected[1, :10], expected[1, 48:] = expected[1, 10], expected[1, 47]
    np.testing.assert_allclose(clip.frames, expected, atol=1e-6)
    assert not clip.frames[0, 0, 1].any()
    only = ntu_cleaning.DEFAULT_STEPS
    assert pku_mmd.read(tmp_path, only).cleaning == only
    with pytest.raises(InputError, match="cleaning step 'smooth' is unknown"):
        pku_mmd.read(tmp_path, ("smooth",))


def test_absent_body_is_absent_whichever_it_is(tmp_path):
    frames = video(0, 2)
    frames[0] = 0
    put(tmp_path, {"0002-M": frames}, {"0002-M": "1,0,60,1"})
    (clip,) = pku_mmd.read(tmp_path, ())
    assert np.array_equal(clip.frames, frames[1:])


DAMAGED_LABELS = {
    "1,0": "has 2 columns, not label,start,end,confidence",
    "1,0,5,2,9": "has 5 columns",
    "1 0 5 2": "has 1 columns",
    "one,0,5,2": "'one' is no whole number",
    "1,nan,5,2": "'nan' is no whole number",
    "1,-4,5,2": "'-4' is no whole number",
    "1,0,5.5,2": "'5.5' is no whole number",
    f"1,0,{'9' * 5000},2": "is no whole number",
    "0,0,5,2": "label 0 is not 1 to 51",
    "52,0,5,2": "label 52 is not 1 to 51",
    "1,9,5,2": "starts at frame 9, but ends at 5",
    "1,5,5,2": "starts at frame 5, but ends at 5",
}


@pytest.mark.parametrize("row", DAMAGED_LABELS)
def test_damaged_label_takes_its_clip_alone(row, tmp_path):
    put(tmp_path, {"0002-M": video(0)}, {"0002-M": f"8,0,20,2\n{row}\n9,20,30,1\n"})
    first, bad, last = pku_mmd.read(tmp_path, ())
    assert (first.name, last.name) == ("0002-M_001", "0002-M_003")
    assert bad.name == "0002-M_002"
    assert bad.reason.startswith("Label/0002-M.txt, line 2: ")
    assert DAMAGED_LABELS[row] in bad.reason and len(bad.reason) < 200


DAMAGED_ROWS = {
    "0.1 0.2": "line 26 has 2 numbers, not 150",
    " ".join(["0.5"] * 151): "line 26 has 151 numbers, not 150",
    "": "line 26 has 0 numbers, not 150",
    " ".join(["0.5"] * 149 + ["x"]): "line 26: could not convert string to float",
    " ".join(["0.5"] * 149 + ["-inf"]): "line 26 has a number that is infinite",
    " ".join(["0.5"] * 149 + ["1e999"]): "line 26 has a number that is infinite",
    " ".join(["0.5"] * 149 + ["x" * 9999]): "line 26: could not convert string to float",
}


@pytest.mark.parametrize("row", DAMAGED_ROWS, ids=range(len(DAMAGED_ROWS)))
def test_damaged_row_takes_the_clips_it_is_in(row, tmp_path):
    lines = text(video(0)).splitlines()
    lines[25] = row
    put(tmp_path, {"0002-M": "\n".join(lines)}, {"0002-M": "8,0,25,2\n9,20,30,1\n9,26,60,1\n"})
    first, bad, last = pku_mmd.read(tmp_path, ())
    assert (first.frames.shape[1], last.frames.shape[1]) == (25, 34)
    assert bad == BadClip("0002-M_002", bad.reason)
    assert bad.reason.startswith(f"Skeleton/0002-M.txt: {DAMAGED_ROWS[row]}")
    assert len(bad.reason) < 200


def test_end_beyond_the_last_frame(tmp_path):
    put(tmp_path, {"0002-M": video(0)}, {"0002-M": "1,0,60,1\n1,0,61,1"})
    good, bad = pku_mmd.read(tmp_path)
    assert good.frames.shape[1] == 60
    assert bad.reason == "ends at frame 61, but Skeleton/0002-M.txt has 60"


def test_clip_that_shows_nobody(tmp_path):
    put(tmp_path, {"0002-M": np.zeros((1, 30, 25, 3))}, {"0002-M": "1,0,30,1"})
    (bad,) = pku_mmd.read(tmp_path)
    assert "shows nobody: all joints are missing in all 30 frames" in bad.reason
    (bad,) = pku_mmd.read(tmp_path, ())
    assert "no usable body: none in any of 30 frames" in bad.reason


def test_missing_joints_are_filled_before_all_other_steps(tmp_path):
    whole = video(0)
    frames = whole.copy()
    frames[0, 3, 7], frames[0, 5, 8] = np.nan, 0
    whole[0, 3, 7] = (whole[0, 2, 7] + whole[0, 4, 7]) / 2
    whole[0, 5, 8] = (whole[0, 4, 8] + whole[0, 6, 8]) / 2
    put(tmp_path, {"0002-M": frames}, {"0002-M": "1,0,60,1"})
    (clip,) = pku_mmd.read(tmp_path)
    np.testing.assert_allclose(clip.frames, whole - whole[0, 0, 1], atol=1e-5)
    assert clip.filled == tuple(int(joint in (7, 8)) for joint in range(25))


RANDOM = np.random.default_rng(0).bytes(5000)
DAMAGED_FILES = {
    "commas": RANDOM.replace(b"\n", b","),
    "no comma": RANDOM.replace(b",", b";"),
    "empty": b"",
    "zeros": bytes(3000),
    "utf-16": "1 2 3\n".encode("utf-16") * 200,
}


@pytest.mark.parametrize("content", DAMAGED_FILES.values(), ids=DAMAGED_FILES)
@pytest.mark.parametrize("kind", ["Skeleton", "Label"])
def test_damaged_file_costs_its_recording_alone(kind, content, six):
    root, _ = six
    (file,) = (path for path in root.rglob("0002-M.txt") if path.parent.name == kind)
    file.write_bytes(content)
    clips = list(pku_mmd.read(root))
    (bad,) = (clip for clip in clips if isinstance(clip, BadClip))
    assert bad.name in ("0002-M", "0002-M_001") and bad.reason.startswith(f"{kind}/0002-M.txt")
    assert bad.reason.isprintable() and len(bad.reason) < 200
    assert len(clips) == 11


def test_what_lacks_its_other_half_is_named(tmp_path):
    videos = {name: video(0) for name in ("0002-L", "0002-M", "0002-R", "0009-M")}
    labels = dict.fromkeys(("0002-L", "0002-R", "0003-L", "0009-M"), "1,0,60,1")
    labels["0002-R"] = "\n"
    good, *bad = pku_mmd.read(put(tmp_path, videos, labels))
    assert good.name == "0002-L_001"
    assert bad == [
        BadClip("0002-M", "has no label file"),
        BadClip("0002-R", "Label/0002-R.txt names no action"),
        BadClip("0003-L", "has a label file, but no skeleton file"),
        BadClip("0009-M", "is in no list of the split file", published=True),
    ]


def test_what_is_missing_is_said(six, tmp_path):
    root, _ = six
    for folder, kind in (
        ("Split", "cross-subject split"),
        ("Label", "label"),
        ("Data", "skeleton"),
    ):
        (root / folder).rename(tmp_path.parent / f"{tmp_path.name}-{folder}")
        with pytest.raises(InputError, match=f"^{root}: no {kind} file in it: request PKU-MMD"):
            pku_mmd.read(root)
        (tmp_path.parent / f"{tmp_path.name}-{folder}").rename(root / folder)
    with pytest.raises(InputError, match=r"nowhere: no such folder: .*--dataset=pku_mmd"):
        pku_mmd.read(root / "nowhere")
    assert len(list(pku_mmd.read(root))) == 12


def test_what_is_there_twice_or_of_both_phases_is_refused(six):
    root, _ = six
    other = root / "Skeleton_copy" / "0002-M.txt"
    other.parent.mkdir()
    other.write_text(text(video(9)))
    with pytest.raises(InputError, match="is a skeleton file of it too: remove one"):
        pku_mmd.read(root)
    other.rename(other.with_name("A01N01-M.txt"))
    with pytest.raises(InputError, match="holds phases I and II: give one's folder"):
        pku_mmd.read(root)


SPLITS = {
    "0002-L, 0003-L": "line 1: no line 'Training videos:' before it",
    "Training videos:\n0002-L, 0002-X": "line 2: '0002-X' is no name of a video",
    "Training videos:\n0002-L\nTest videos:\n0002-M,0002-L": "line 4: 0002-L is to train on and to",
    "\0\xff": "is no name of a video",
}


@pytest.mark.parametrize("damaged", SPLITS)
def test_damaged_split_file(damaged, six):
    root, _ = six
    (root / "Split" / "cross-subject.txt").write_text(damaged)
    with pytest.raises(InputError, match=SPLITS[damaged]):
        pku_mmd.read(root)


def test_split_of_views_that_the_cameras_contradict(six):
    root, _ = six
    (root / "Split" / "cross-view.txt").write_text(lists(["0002-L"], ["0002-M"]))
    with pytest.raises(InputError, match=r"cross-view.txt: 0002-L is on the other side .*xview"):
        pku_mmd.read(root)
    (root / "Split" / "cross-view.txt").unlink()
    assert len(list(pku_mmd.read(root))) == 12


def test_both_protocols_of_one_store_and_workers_change_no_byte(six, tmp_path):
    root, _ = six
    (root / "Label" / "0003-R.txt").write_text("8,0,20,2\nbroken")
    raw = pku_mmd.read(root)
    for workers in (1, 2):
        prepare_store(tmp_path / f"{workers}", raw, source="tests", workers=workers)
    assert content(tmp_path / "1") == content(tmp_path / "2")
    store = SkeletonStore.open(tmp_path / "1")
    of = functools.partial(protocols.split, store)
    videos = {
        part: {str(n)[:6] for n in store.clips["name"][of("xsub", part)]}
        for part in ("train", "test")
    }
    assert videos == {"train": set(TRAIN), "test": set(TEST)}
    assert set(store.clips["camera"][of("xview", "train")]) == set(pku_files.TRAIN_CAMERAS)
    assert set(store.clips["camera"][of("xview", "test")]) == {1}
    assert set(store.clips["camera"][of("xview", "val")]) == {3}


def test_labels_that_changed_are_other_data(six):
    root, _ = six
    before = pku_mmd.read(root).fingerprint()
    assert pku_mmd.read(root).fingerprint() == before
    (root / "Label" / "0002-M.txt").write_text("8,0,20,2\n14,25,59,1\n")
    assert pku_mmd.read(root).fingerprint() != before


def test_a_file_without_end_is_not_read(six, monkeypatch):
    root, _ = six
    monkeypatch.setattr(pku_mmd, "_MAX_BYTES", 1000)
    assert {bad.reason for bad in pku_mmd.read(root)} == {
        f"Skeleton/{name}.txt is longer than 0 MB" for name in (*TRAIN, *TEST)
    }


def test_the_data_set_is_registered():
    assert FORMATS["pku_mmd"] is pku_mmd
    assert len(set(pku_mmd.CLASS_NAMES)) == 51
    named = {1: "bow", 12: "giving something to other person", 33: "sitting down", 51: "writing"}
    assert {n: pku_mmd.CLASS_NAMES[n - 1] for n in named} == named
    assert sorted(protocols.PROTOCOLS["pku_mmd"]) == ["xsub", "xview"]
