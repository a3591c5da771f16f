import dataclasses

import numpy as np
import pytest
from clip_samples import NW_UCLA, random_clips
from ntu_names import samples

from igm_jax import features
from igm_jax.data import synthetic
from igm_jax.data.formats import mamp_npz, ntu_missing
from igm_jax.data.formats.prepare import prepare_store
from igm_jax.data.protocols import PROTOCOLS, Protocol, note, shares_people, split
from igm_jax.data.store import Clip, SkeletonStore
from igm_jax.data.store.files import clip_dtype
from igm_jax.errors import InputError
from igm_jax.reading import Reading
from igm_jax.skeleton import NTU25


def people(subjects, cameras=(1,), setups=(1,)):
    frames = np.ones((1, 1, 20, 3), np.float32)
    for s in subjects:
        for c in cameras:
            for p in setups:
                yield Clip(f"s{s} c{c} p{p}", frames, 0, s, c, p, split=1 + s % 2)


def values(store, column, protocol, part):
    return np.unique(store.clips[column][split(store, protocol, part)]).tolist()


def test_nw_ucla_has_the_published_split(ucla):
    parts = {part: split(ucla, "xview", part) for part in ("train", "test", "fit", "val")}
    assert {part: len(chosen) for part, chosen in parts.items()} == {
        "train": 1020,
        "test": 464,
        "fit": 516,
        "val": 504,
    }
    for part, file in (("train", "train_v01_v02.txt"), ("test", "val_v03.txt")):
        official = [line.split() for line in (NW_UCLA / file).read_text().splitlines()]
        ours = ucla.clips[parts[part]]
        assert sorted(
            (name, int(length), int(label)) for name, length, label in official
        ) == sorted(
            zip(ours["name"].tolist(), ours["length"].tolist(), (ours["label"] + 1).tolist())
        )


@pytest.mark.parametrize(
    ("dataset", "setups", "everything", "published"),
    [
        ("ntu60", 17, 56_880, {"xsub": (40_091, 16_487), "xview": (37_646, 18_932)}),
        ("ntu120", 32, 114_480, {"xsub": (63_026, 50_919), "xset": (54_468, 59_477)}),
    ],
)
def test_ntu_has_the_published_sizes(dataset, setups, everything, published, tmp_path):
    """All names less those with missing skeletons: it takes no frames to check who is where."""
    every = list(samples(setups))
    assert len(every) == everything
    usable = [sample for sample in every if sample[0] not in ntu_missing.NAMES]
    table = np.zeros(len(usable), clip_dtype(20))
    table[["name", "setup", "camera", "subject"]] = usable
    no_frames = np.zeros((0, 25, 3), np.float32)
    store = SkeletonStore(tmp_path, no_frames, table, NTU25, (), {"dataset": dataset})
    sizes = {
        protocol: tuple(len(split(store, protocol, part)) for part in ("train", "test"))
        for protocol in PROTOCOLS[dataset]
    }
    assert sizes == published


@pytest.mark.parametrize("dataset", PROTOCOLS)
def test_parts_partition_the_store_and_keep_values_together(dataset, write):
    store = write(people(range(1, 41), (1, 2, 3), (1, 2, 3, 4)), dataset=dataset)
    for name, protocol in PROTOCOLS[dataset].items():
        part = {p: split(store, name, p) for p in ("train", "test", "fit", "val")}
        assert all(chosen.dtype == np.int64 for chosen in part.values())
        everything = np.concatenate([part["train"], part["test"]])
        assert np.array_equal(np.sort(everything), np.arange(len(store)))
        assert np.array_equal(np.union1d(part["fit"], part["val"]), part["train"])
        if protocol.column == "split":
            continue  # which has one value for all training clips
        sides = [set(values(store, protocol.column, name, p)) for p in ("fit", "val", "test")]
        assert sum(map(len, sides)) == len(set.union(*sides))


def marked(names, labels, subjects=None):
    """Clips of one frame, every tenth of them for the test."""
    frames = np.ones((1, 1, 20, 3), np.float32)
    for i, (name, label) in enumerate(zip(names, labels, strict=True)):
        subject = subjects[i] if subjects is not None else 0
        yield Clip(name, frames, label, subject, split=2 if i % 10 == 9 else 1)


def recordings():
    """Forty recordings of three cameras and four actions, of which each lacks one class."""
    for recording in range(40):
        for camera in "LMR":
            for line in range(1, 5):
                label = (recording + line) % 5
                yield f"{recording:04d}-{camera}_{line:03d}", label - 1, f"{recording:04d}"


def of_people(name):
    """Ten people, four classes, three times each; `name` makes the name of a clip."""
    for person in range(1, 11):
        for label in range(4):
            for take in range(3):
                yield name.format(p=person, c="wxyz"[label], t=take), label, person


GROUPED = {  # data set → clips (name, label, who is in it), and whether subjects are in the table
    "recordings of PKU-MMD": ("pku_mmd", list(recordings()), False),
    "names of NTU": ("pyskl_pkl", list(of_people("S001C001P{p:03d}R{t:03d}A{c}")), True),
    "subjects": ("custom", list(of_people("{c}{p}{t}")), True),
    "subjects, not folders": ("custom", list(of_people("{t}/{c}{p}")), True),
    "folders": ("custom", list(of_people("p{p:02d}/{c}{t}")), False),
    "folders by class and person": ("custom", list(of_people("{c}/p{p:02d}/{t}")), False),
}


@pytest.mark.parametrize("case", GROUPED)
def test_groups_are_never_cut(case, write):
    dataset, facts, subjects_known = GROUPED[case]
    names, labels, who = zip(*facts)
    clips = marked(names, labels, who if subjects_known else None)
    store = write(clips, dataset=dataset)
    rule = Protocol("split", frozenset((1,)))
    fit, val, train = (split(store, rule, part) for part in ("fit", "val", "train"))
    assert np.array_equal(np.union1d(fit, val), train) and not set(fit) & set(val)
    who, label = np.array(who), store.clips["label"]
    assert not set(who[fit].tolist()) & set(who[val].tolist())
    classes = set(label.tolist())
    assert set(label[fit].tolist()) == set(label[val].tolist()) == classes
    for c in classes:
        assert 0.1 < (label[val] == c).sum() / (label[train] == c).sum() < 0.35
    assert max(who[val]) == max(who[train])  # the last ones
    assert not shares_people(store, rule) and note(store, rule) == ""


def test_people_of_one_class_each_are_kept_whole_by_their_folders(write):
    """As in walk/anna/3: the folders of the classes tell nothing, those of the people do."""
    names = [f"{c}/{c}{p}/{t:02d}" for c in "wxyz" for p in range(4) for t in range(5)]
    store = write(marked(names, [i // 20 for i in range(80)]), dataset="custom")
    rule = Protocol("split", frozenset((1,)))
    people = [
        {str(name).split("/")[1] for name in store.clips["name"][split(store, rule, part)]}
        for part in ("fit", "val")
    ]
    assert not people[0] & people[1] and len(people[1]) == 4
    assert not shares_people(store, rule)


@pytest.mark.parametrize(
    "clips",
    [
        marked([f"{i:03d}" for i in range(60)], [i % 3 for i in range(60)]),
        marked([f"{'wxy'[i % 3]}/{i:03d}" for i in range(60)], [i % 3 for i in range(60)]),
        marked([f"{i:03d}/clip" for i in range(60)], [i % 3 for i in range(60)]),
        marked([f"{i:03d}" for i in range(60)], [i % 3 for i in range(60)], [7] * 60),
        marked([f"{i:03d}" for i in range(60)], [i % 3 for i in range(60)], [0] + [1, 2] * 30),
    ],
    ids=[
        "no facts",
        "folders are the classes",
        "a folder each",
        "one subject",
        "a subject is unknown",
    ],
)
def test_without_groups_the_last_fifth_of_each_class_validates_and_it_is_said(clips, write):
    store = write(clips)
    fit, val, train = (split(store, "split", part) for part in ("fit", "val", "train"))
    label = store.clips["label"]
    for c in range(3):
        of_class = train[label[train] == c]
        assert np.array_equal(val[label[val] == c], of_class[-round(len(of_class) / 5) :])
        assert np.array_equal(fit[label[fit] == c], of_class[: -round(len(of_class) / 5)])
    assert shares_people(store, "split")
    assert note(store, "split") == "validation shares people with training"


def test_unlabelled_clips_and_classes_of_one_clip(write):
    """The first are cut like a class; the second stay in `fit`."""
    labels = [0] + [1] * 2 + [2] * 12 + [-1] * 5
    store = write(
        dataclasses.replace(clip, split=1)
        for clip in marked([f"{i:03d}" for i in range(20)], labels)
    )
    assert store.clips["label"][split(store, "split", "val")].tolist() == [1, 2, 2, -1]


def test_a_class_of_the_last_subject_stays_in_fit(write):
    """Subjects 7 and 9 would be for validation, but nobody else performs z."""
    frames = np.ones((1, 1, 20, 3), np.float32)
    facts = [(s, c) for s in range(1, 11) for c in (0, 1, 2)] + [(9, 3), (9, 3)]
    store = write(Clip(f"{i:02d}", frames, c, s) for i, (s, c) in enumerate(facts))
    assert values(store, "subject", "xsub", "val") == [7]
    assert values(store, "subject", "xsub", "fit") == [1, 3, 5, 9]
    assert values(store, "label", "xsub", "fit") == [0, 1, 2, 3]
    assert note(store, "xsub") == ""


def test_a_class_that_only_validation_has_is_told(write):
    """Each subject has a class of their own, so there is no better cut."""
    frames = np.ones((1, 1, 20, 3), np.float32)
    store = write(Clip(f"{s}", frames, s // 2, s) for s in range(1, 8))
    assert values(store, "subject", "xsub", "val") == [7]
    assert note(store, "xsub") == "only validation has the classes z"


def test_a_class_that_only_the_test_has_is_told(write):
    frames = np.ones((1, 1, 20, 3), np.float32)
    facts = [(s, c) for s in range(1, 8) for c in (0, 1)] + [(2, 2), (4, 3), (4, -1)]
    store = write(Clip(f"{i:02d}", frames, c, s) for i, (s, c) in enumerate(facts))
    names = ", ".join(store.class_names[2:4])
    assert note(store, "xsub") == f"only test has the classes {names}"


def test_data_without_a_test_part_have_no_note(write):
    frames = np.ones((1, 1, 20, 3), np.float32)
    store = write(Clip(f"{s}{c}", frames, c, s) for s in (1, 3, 5, 7) for c in (0, 1))
    assert note(store, "xsub") == ""


def test_validation_tells_of_the_test_where_a_file_hides_the_names(tmp_path):
    """K=1 of raw joints is as good on `val` as on `test`; another camera's take would give 100 %.

    Four classes of the synthetic data set, as a published file: in the order of setup and subject.
    """
    raw = synthetic.generate(2304)
    parts = [takes for takes in raw.parts if synthetic.Take(takes[0]).label < 4]
    clips = [clip for part in parts for clip in raw.read_part(part)]
    clips.sort(key=lambda clip: (clip.setup, clip.subject, clip.name))
    held = {}
    for side in ("train", "test"):
        chosen = [clip for clip in clips if (clip.subject % 2 == 1) == (side == "train")]
        short = np.zeros((len(chosen), 32, 2, 25, 3), np.float32)
        for row, clip in zip(short, chosen):
            times = np.linspace(0, clip.frames.shape[1] - 1, 32).round().astype(int)
            row[:, 0] = clip.frames[0, times]
        held[f"x_{side}"] = short.reshape(len(chosen), 32, 150)
        held[f"y_{side}"] = np.eye(60)[[clip.label for clip in chosen]]
    np.savez(tmp_path / "file.npz", **held)
    prepare_store(tmp_path / "store", mamp_npz.read(tmp_path / "file.npz"), source="t", workers=1)
    store = SkeletonStore.open(tmp_path / "store")
    batches = features.clip_batches(
        store, np.arange(len(store)), Reading(store.layout, "posture", 32, 1)
    )
    joints = np.concatenate([clips.reshape(len(clips), -1) for clips, _ in batches])
    joints /= np.linalg.norm(joints, axis=1, keepdims=True)
    label = store.clips["label"]

    def nearest(reference, queries):
        known, asked = (split(store, "split", part) for part in (reference, queries))
        found = label[known][(joints[asked] @ joints[known].T).argmax(axis=1)]
        return 100 * np.mean(found == label[asked])

    validation, test = nearest("fit", "val"), nearest("train", "test")
    assert abs(validation - test) < 12, (validation, test)


def test_ntu60(write):
    store = write(people(range(1, 41), (1, 2, 3)), dataset="ntu60")
    train = "1 2 4 5 8 9 13 14 15 16 17 18 19 25 27 28 31 34 35 38"
    assert values(store, "subject", "xsub", "train") == [int(number) for number in train.split()]
    assert values(store, "subject", "xsub", "val") == [31, 34, 35, 38]
    assert values(store, "subject", "xsub", "test")[:4] == [3, 6, 7, 10]
    assert values(store, "camera", "xview", "train") == [2, 3]
    assert values(store, "camera", "xview", "val") == [3]
    assert values(store, "camera", "xview", "test") == [1]


def test_ntu120(write):
    store = write(people(range(1, 107), setups=range(1, 33)), dataset="ntu120")
    train = """1 2 4 5 8 9 13 14 15 16 17 18 19 25 27 28 31 34 35 38 45 46 47 49 50 52 53 54 55 56
    57 58 59 70 74 78 80 81 82 83 84 85 86 89 91 92 93 94 95 97 98 100 103"""
    assert values(store, "subject", "xsub", "train") == [int(number) for number in train.split()]
    assert len(values(store, "subject", "xsub", "val")) == 11
    assert values(store, "setup", "xset", "train") == list(range(2, 33, 2))
    assert values(store, "setup", "xset", "val") == [26, 28, 30, 32]


def test_validation_of_ntu_120_has_all_classes(tmp_path):
    """The last fifth of the people performs the classes from 61 on, and no other."""
    every = list(samples(32))
    table = np.zeros(len(every), clip_dtype(20))
    table[["name", "setup", "camera", "subject"]] = every
    table["label"] = [int(sample[0][17:]) - 1 for sample in every]
    no_frames = np.zeros((0, 25, 3), np.float32)
    store = SkeletonStore(tmp_path, no_frames, table, NTU25, (), {"dataset": "ntu120"})
    assert values(store, "label", "xsub", "fit") == list(range(120))
    assert values(store, "label", "xsub", "val") == list(range(120))
    people = [values(store, "subject", "xsub", part) for part in ("fit", "val")]
    assert not set(people[0]) & set(people[1])
    assert 0.1 < len(split(store, "xsub", "val")) / len(split(store, "xsub", "train")) < 0.35


def test_odd_subjects_train(write, tmp_path):
    for dataset in ("synthetic", "utd_mhad"):
        store = write(people(range(1, 9)), path=tmp_path / dataset, dataset=dataset)
        assert values(store, "subject", "xsub", "train") == [1, 3, 5, 7]
        assert values(store, "subject", "xsub", "val") == [7]


def test_validation_is_a_fifth_rounded_up_of_the_values_that_occur(write, tmp_path):
    rule = Protocol("subject", frozenset(range(1, 100)))
    for count, expected in ((2, 1), (5, 1), (6, 2), (10, 2), (11, 3)):
        store = write(people(range(1, count + 1)), path=tmp_path / str(count))
        assert values(store, "subject", rule, "val") == list(range(count - expected + 1, count + 1))


def test_own_protocol_on_own_data(write):
    store = write(random_clips(20))
    chosen = split(store, Protocol("camera", frozenset((1,))), "test")
    assert set(store.clips["camera"][chosen]) == {2, 3}


@pytest.mark.parametrize(
    ("dataset", "protocol", "part", "told"),
    [
        (
            "ntu60",
            "xset",
            "train",
            "protocol 'xset' is unknown for data set 'ntu60': .* xsub, xview",
        ),
        ("toy", "xsub", "train", "unknown for data set 'toy': pass a Protocol"),
        ("ntu60", "xsub", "dev", "part='dev' is unknown: choose one of train, test, fit, val"),
        (
            "ntu60",
            "xview",
            "test",
            "'test' of protocol 'xview' is empty: no clip has a camera that is tested.*s are .2.",
        ),
        (
            "ntu60",
            "xview",
            "fit",
            "'fit' of protocol 'xview' is empty: only one camera is trained on, 2, and .*'val'",
        ),
        (
            "pku_mmd",
            "xsub",
            "val",
            "'val' of protocol 'xsub' is empty: each class has one training clip, and part 'fit'",
        ),
        ("ntu120", "xset", "train", "clip 's1 c2 p0' has no setup"),
    ],
)
def test_what_cannot_be_split_is_told(dataset, protocol, part, told, write):
    store = write(people((1, 2, 3), (2,), (0,)), dataset=dataset)
    with pytest.raises(InputError, match=told):
        split(store, protocol, part)


@pytest.mark.parametrize(
    ("side", "empty", "told"),
    [
        (1, {"test"}, "no clip is marked as test"),
        (2, {"train", "fit", "val"}, "no clip is marked as training"),
    ],
)
def test_a_side_without_clips_is_told(side, empty, told, write):
    frames = np.ones((1, 1, 20, 3), np.float32)
    store = write(Clip(f"{i}", frames, 0, split=side) for i in range(6))
    for part in ("train", "fit", "val", "test"):
        if part in empty:
            with pytest.raises(InputError, match=f"part '{part}' of protocol 'split' .*: {told}"):
                split(store, "split", part)
        else:
            assert len(split(store, "split", part))
