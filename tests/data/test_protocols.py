import numpy as np
import pytest
from clip_samples import NW_UCLA, random_clips
from ntu_names import samples

from igm_jax.data.formats import ntu_missing
from igm_jax.data.protocols import PROTOCOLS, Protocol, split
from igm_jax.data.store import Clip, SkeletonStore
from igm_jax.data.store.files import clip_dtype
from igm_jax.errors import InputError
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
        "train": 1020, "test": 464, "fit": 516, "val": 504,
    }  # fmt: skip
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


def test_a_published_split_is_cut_by_class(write):
    """Every fifth training clip of each class is for validation, unlabelled ones too."""
    frames = np.ones((1, 1, 20, 3), np.float32)
    facts = [(label, part) for part in (1, 2, 1) for label in (0, 1, 1, 3, -1) for _ in range(5)]
    store = write(
        Clip(f"{i:03d}", frames, label, split=part) for i, (label, part) in enumerate(facts)
    )
    rule = Protocol("split", frozenset((1,)))
    part = {p: split(store, rule, p) for p in ("train", "test", "fit", "val")}
    assert np.array_equal(store.clips["split"][part["test"]], [2] * 25)
    assert np.array_equal(np.union1d(part["fit"], part["val"]), part["train"])
    label = store.clips["label"]
    for c in (0, 1, 3, -1):
        of_class = part["train"][label[part["train"]] == c]
        assert np.array_equal(part["val"][label[part["val"]] == c], of_class[4::5])
    assert len(part["val"]) == 10 and len(part["fit"]) == 40


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
        ("ntu60", "xsub", "dev", "part 'dev' is unknown: choose one of train, test, fit, val"),
        ("ntu60", "xview", "test", "part 'test' of protocol 'xview' is empty.*cameras are .2."),
        ("ntu60", "xview", "fit", "part 'fit' of protocol 'xview' is empty"),
        ("ntu120", "xset", "train", "clip 's1 c2 p0' has no setup"),
    ],
)
def test_what_cannot_be_split_is_told(dataset, protocol, part, told, write):
    store = write(people((1, 2, 3), (2,), (0,)), dataset=dataset)
    with pytest.raises(InputError, match=told):
        split(store, protocol, part)
