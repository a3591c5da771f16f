"""Labels and identities of own clips: labels.csv and classes.txt."""

import numpy as np
import pytest
from custom_folders import FRAMES, put_csv, reasons, table

from igm_jax.data.formats import custom
from igm_jax.errors import InputError


@pytest.fixture
def three(folder):
    """A folder with the clips a, b and c/d."""
    (folder / "c").mkdir()
    for name in ("a", "b", "c/d"):
        np.save(folder / f"{name}.npy", FRAMES)
    return folder


def facts(folder):
    return [clip.facts for clip in custom.read(folder)]


def test_columns_in_any_order(three):
    table(
        three,
        "split,Camera,label,clip,setup,subject",
        "train,1,walk,b,,2",
        "test,2,run,c/d.npy,3,1",
        ",1,,./a,,",
    )
    assert facts(three) == [("a", -1, 0, 1, 0, 1), ("b", 1, 2, 1, 0, 1), ("c/d", 0, 1, 2, 3, 2)]
    assert custom.read(three).class_names == ("run", "walk")


def test_only_the_clip_must_be_there(three):
    table(three, "clip", "a", "b", "c\\d")
    assert facts(three) == [(name, -1, 0, 0, 0, 1) for name in ("a", "b", "c/d")]


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (("10", "9", "2"), ("2", "9", "10"), (2, 1, 0)),
        (("1.0", "", "0"), ("0", "1"), (1, -1, 0)),
        (("10", "9", "walk"), ("10", "9", "walk"), (0, 1, 2)),
        (("ß", "b", "B"), ("B", "b", "ß"), (2, 1, 0)),
    ],
)
def test_classes_are_the_labels_that_occur(labels, names, expected, three):
    table(three, "clip,label", *(f"{c},{label}" for c, label in zip(("a", "b", "c/d"), labels)))
    assert custom.read(three).class_names == names
    assert tuple(clip.label for clip in custom.read(three)) == expected


def test_classes_file_decides_where_it_is(three):
    (three / "classes.txt").write_text("walk\nrun\njump\n\n")
    table(three, "clip,label", "a,jump", "b,0", "c/d,swim")
    raw = custom.read(three)
    assert raw.class_names == ("walk", "run", "jump")
    a, b, bad = raw
    assert (a.label, b.label) == (2, 0)
    assert "line 4: label 'swim' is none of the 3 classes" in bad.reason
    (three / "classes.txt").write_text("1\n2\n3\n")
    table(three, "clip,label", "a,1", "b,3.0", "c/d,0")
    a, b, bad = custom.read(three)
    assert (a.label, b.label) == (0, 2)
    assert "label '0' is none" in bad.reason


def test_people_by_name_are_numbered_in_sorted_order(three):
    table(three, "clip,subject,camera", "a,zoe,7", "b,,5", "c/d,anna,7.0")
    assert [clip.facts[2:4] for clip in custom.read(three)] == [(2, 7), (0, 5), (1, 7)]


def test_what_is_not_in_the_table_and_what_is_only_there_are_named(three):
    table(three, "clip,label", "a,x", "nothing,x", "b,y")
    told = reasons(three)
    assert told == {
        "c/d.npy": "has no row in labels.csv: add one",
        "nothing": "labels.csv line 3: there is no such clip",
    }


BAD_ROWS = {
    "parent": ("../../etc/passwd,x", "../../etc/passwd", "line 2: the clip is not below"),
    "back": ("c/../../a,x", "c/../../a", "line 2: the clip is not below"),
    "absolute": ("/etc/passwd,x", "/etc/passwd", "line 2: the clip is not below"),
    "drive": ("C:\\a,x", "C:\\a", "line 2: the clip is not below"),
    "no clip": (",x", "labels.csv line 2", "line 2: has no clip"),
    "folder": ("c,x", "c", "line 2: there is no such clip"),
    "long": ("a,x,1", "a.npy", "line 2: has 3 cells, the header 2"),
    "short": ("a", "a.npy", "line 2: has 1 cells, the header 2"),
    "twice": ("a,x\na.npy,x", "a.npy", "line 3: is in line 2 too"),
    "other split": ("a,dev", "a.npy", "line 2: split 'dev' is neither train nor test"),
}


@pytest.mark.parametrize(("row", "name", "reason"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_row_is_named_and_the_rest_goes_on(row, name, reason, three):
    table(three, "clip,split" if "split" in reason else "clip,label", row, "b,")
    assert reason in reasons(three)[name]
    assert "b" in [clip.name for clip in custom.read(three)]


def test_row_that_may_mean_two_files(three):
    put_csv(three / "a.csv")
    table(three, "clip,label", "a,x", "b,x", "c/d,x")
    assert "may mean a.csv or a.npy: write the suffix" in reasons(three)["a"]
    table(three, "clip,label", "a.csv,x", "b,x", "c/d,x")
    assert list(reasons(three)) == ["a.npy"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("clip;label\na;x\n", "column 'clip;label' is unknown .* with commas between"),
        ("clip,lable\na,x\n", "column 'lable' is unknown"),
        ("clip,label,label\na,x,y\n", "column 'label' is unknown or there twice"),
        ("label\nx\n", "has no column clip"),
        ("clip,label\na,-1\n", "line 2: label '-1' is negative: leave the cell empty"),
        ("clip,subject\na,0\n", "line 2: subject '0': count from 1"),
        ("clip,camera\na,1\nb,-2\n", "line 3: camera '-2': count from 1"),
        ("clip,subject\na,1\nb,2\nc/d,1a\n", "line 4: subject '1a' is no number, and others"),
        ("clip,camera\na,1.5\nb,2\n", "line 2: camera '1.5' is no number"),
        ("clip,subject\na,-3\nb,-3\n", "line 2: subject '-3': count from 1"),
        ("clip,label\na,-1\nb,-1\n", "line 2: label '-1' is negative"),
        ("clip,label\na," + "x" * 200_000 + "\n", "is no table in UTF-8"),
        (b"clip,label\na,\xff\n", "is no table in UTF-8"),
    ],
)
def test_table_that_cannot_be_used(content, told, three):
    content = content.encode() if isinstance(content, str) else content
    (three / "labels.csv").write_bytes(content)
    with pytest.raises(InputError, match=rf"labels\.csv: {told}"):
        custom.read(three)


@pytest.mark.parametrize("content", [b"walk\nwalk\n", b"walk\n\nrun\n", b"\xff\n"])
def test_classes_file_that_cannot_be_used(content, three):
    (three / "classes.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"classes\.txt: .*(line 2|UTF-8)"):
        custom.read(three)
