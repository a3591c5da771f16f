import json

import numpy as np
import pytest
from clip_samples import NW_UCLA

from igm_jax.data.formats import nw_ucla
from igm_jax.data.store import BadClip, Clip
from igm_jax.errors import InputError

FRAMES = np.random.default_rng(0).normal(size=(5, 20, 3)).astype(np.float32)


def put(folder, name="a08_s03_e01_v02", text=None, **changes):
    record = {"file_name": name, "skeletons": FRAMES.tolist(), "label": 7, **changes}
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record) if text is None else text)


def test_one_clip(tmp_path):
    put(tmp_path / "all_sqe")
    expected = Clip("a08_s03_e01_v02", FRAMES[None], label=6, subject=3, camera=2)
    assert list(nw_ucla.read(tmp_path)) == [expected]
    assert list(nw_ucla.read(tmp_path / "all_sqe")) == [expected]
    assert nw_ucla.CLASS_NAMES[6] == "donning"


def test_order_is_that_of_the_names(tmp_path):
    names = ["a01_s01_e00_v01", "a01_s01_e01_v01", "a02_s01_e00_v01", "a10_s01_e00_v01"]
    for name in reversed(names):
        put(tmp_path, name)
    assert [clip.name for clip in nw_ucla.read(tmp_path)] == names


BAD = {
    "cut": ({"text": '{"label": 7, "skel'}, "is damaged"),
    "list": ({"text": "[]"}, "is damaged"),
    "deep": ({"text": "[" * 100_000}, "is damaged"),
    "ragged": ({"skeletons": [[[0, 0, 0]] * 20, [[0, 0, 0]] * 19]}, "is damaged"),
    "words": ({"skeletons": [[["x", "y", "z"]] * 20]}, "is damaged"),
    "flat": ({"skeletons": [1.0, 2.0]}, r"shape \[2\], not"),
    "planar": ({"skeletons": [[[0, 0]] * 20]}, r"shape \[1, 20, 2\], not"),
    "number": ({"skeletons": 3}, r"shape \[\], not"),
    "no key": ({"text": '{"label": 7}'}, "has no key 'skeletons'"),
    "label 0": ({"label": 0}, "label 0 is not 1 to 10"),
    "label 11": ({"label": 11}, "label 11 is not 1 to 10"),
    "label word": ({"label": "seven"}, "label 'seven' is not 1 to 10"),
    "endless": (
        {"text": '{"label": 7, "skeletons": [[[1' + "0" * 400 + ", 0, 0]]]}"},
        "is damaged",
    ),
    "name": ({"name": "a1_s1"}, "name is not aAA_sSS_eEE_vVV"),
}


@pytest.mark.parametrize(("changes", "reason"), BAD.values(), ids=BAD)
def test_damaged_file_is_named(changes, reason, tmp_path, write):
    put(tmp_path / "raw", **changes)
    (bad,) = nw_ucla.read(tmp_path / "raw")
    assert isinstance(bad, BadClip)
    name = changes.get("name", "a08_s03_e01_v02")
    with pytest.raises(InputError, match=rf"'{name}\.json': .*{reason}"):
        write(nw_ucla.read(tmp_path / "raw"), class_names=nw_ucla.CLASS_NAMES)


@pytest.mark.parametrize(
    ("skeletons", "reason"),
    [
        ([[[1, 2, 3]] * 19] * 2, "has 19 joints, layout 'kinect20' has 20"),
        ([], "has no frame"),
        ([[[0, 0, None]] * 20], "shows nobody"),
    ],
)
def test_what_the_store_refuses_is_named(skeletons, reason, tmp_path, write):
    put(tmp_path / "raw", skeletons=skeletons)
    with pytest.raises(InputError, match=f"'a08_s03_e01_v02': .*{reason}"):
        write(nw_ucla.read(tmp_path / "raw"), class_names=nw_ucla.CLASS_NAMES)


def test_missing_folder_or_files_say_how_to_get_them(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=f"{folder}: no .*download .*prepare_data.py"):
            nw_ucla.read(folder)


def test_the_real_thing(ucla):
    assert len(ucla) == 1484
    facts = ucla.summary()
    assert (facts["classes"], facts["subjects"], facts["cameras"]) == (10, 10, 3)
    assert facts["length"] == (1, 31, 201)
    assert facts["max_bodies"] == 1
    name = str(ucla.clips["name"][700])
    raw = json.loads((NW_UCLA / "all_sqe" / f"{name}.json").read_text())
    clip = ucla[700]
    assert np.array_equal(clip.frames[0], np.array(raw["skeletons"], np.float32))
    assert clip.label == raw["label"] - 1
    # In two clips the sensor lost six joints in a frame; between neighbours, and held at the end.
    assert not any((c.frames == 0).all(axis=-1).any() for c in ucla)
    assert ucla.meta["filled"]["clips"] == 2 and sum(ucla.meta["filled"]["joints"]) == 12
    clips = {str(clip.name): clip.frames[0] for clip in ucla}
    middle, end = clips["a04_s01_e01_v01"][:, 0], clips["a04_s04_e02_v01"][:, 0]
    np.testing.assert_allclose(middle[34], (middle[33] + middle[35]) / 2, rtol=1e-6)
    assert np.array_equal(end[45], end[44])
