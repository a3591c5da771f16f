"""Joints of own clips: layout.json."""

import json

import numpy as np
import pytest
from custom_folders import FRAMES, LAYOUT

from igm_jax.data.formats import custom
from igm_jax.errors import InputError
from igm_jax.skeleton import Layout


def test_layout(folder):
    joints = ["hip", "neck", "left hip", "right hip"]
    values = {
        "name": "four",
        "joints": joints,
        "parents": ["neck", -1, "hip", 0],
        "pairs": [["left hip", 3]],
        "axes": ["hip", "neck", "left hip", "right hip"],
        "units": "feet",
    }
    np.save(folder / "a.npy", np.ones((1, 4, 3)))
    (folder / "layout.json").write_text(json.dumps(values))
    raw = custom.read(folder)
    expected = Layout("four", tuple(joints), (1, -1, 0, 0), ((2, 3),), 1, (0, 1, 2, 3))
    assert (raw.layout, raw.units) == (expected, "feet")
    (folder / "layout.json").write_text(json.dumps({**values, "origin": "left hip"}))
    assert custom.read(folder).layout.origin == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": ""}, "name '': give a word"),
        ({"joints": []}, r"joints \[\]: give a list"),
        ({"joints": "hip"}, "joints 'hip': give a list"),
        ({"joints": ["hip", "hip", "hand"]}, "joints: 'hip' is there twice"),
        ({"joints": ["hip", 3, "hand"]}, "joints: 3 is no name"),
        ({"parents": [None, 0]}, "parents has 2 entries, not 3"),
        ({"parents": [None, 0, "elbow"]}, "parents: 'elbow' is none of the joints: hip, left"),
        ({"parents": [None, 0, 3]}, "parents: 3 is no joint: give its name, or 0 to 2"),
        ({"parents": [None, 0, True]}, "parents: True is no joint"),
        ({"parents": [None, [0], 0]}, r"parents: \[0\] is no joint"),
        (
            {"parents": [None, "right hand", "left hand"]},
            "parents lead in a circle: left hand → right hand → left hand: give",
        ),
        ({"parents": [1, 2, 0]}, "parents lead in a circle: hip → left hand → right hand → hip"),
        ({"pairs": [["left hand", "right foot"]]}, "pairs: 'right foot' is none"),
        ({"pairs": [["left hand"]]}, "pairs .*: give a list of"),
        ({"pairs": [[1, 2], [2, 0]]}, "pairs: 'right hand' is there twice"),
        ({"pairs": [[1, 1]]}, "pairs: 'left hand' is there twice"),
        ({"origin": "head"}, "origin: 'head' is none"),
        ({"axes": ["hip", "left hand"]}, "axes has 2 entries, not 4"),
        ({"axes": [0, 1, 2, 2]}, r"axes \[0, 1, 2, 2\]: hip and shoulder centre, .* must differ"),
        ({"units": 3}, "units 3: give a word"),
        ({"missing": "-1"}, "missing '-1': give a number"),
        ({"missing": True}, "missing 'True': give a number"),
        ({"missing": 10**400}, "missing '1000.*': give a number"),
        ({"missing": float("nan")}, "missing 'nan': give a number"),
        ({"parent": []}, "key 'parent' is unknown: use name, joints, parents"),
    ],
)
def test_layout_that_cannot_be(changes, told, folder):
    np.save(folder / "a.npy", FRAMES)
    (folder / "layout.json").write_text(json.dumps({**LAYOUT, **changes}))
    with pytest.raises(InputError, match=rf"layout\.json: {told}"):
        custom.read(folder)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", '{"name": "x"}', "\x00"])
def test_layout_that_is_none(text, folder):
    np.save(folder / "a.npy", FRAMES)
    (folder / "layout.json").write_text(text)
    with pytest.raises(InputError, match=r"layout\.json: (is no JSON|has no key)"):
        custom.read(folder)


def test_missing_folder_clips_or_layout_say_what_to_do(folder, tmp_path):
    for source in (tmp_path / "nowhere", folder):
        with pytest.raises(InputError, match=f"{source}: no .*own_data.md.*prepare_data.py"):
            custom.read(source)
    np.save(folder / "a.npy", FRAMES)
    (folder / "layout.json").unlink()
    with pytest.raises(InputError, match=r"layout\.json: no such file: .*own_data\.md"):
        custom.read(folder)
