import json

import numpy as np
import pytest
from commands import run
from PIL import Image

from igm_jax.data import protocols, summary, synthetic
from igm_jax.data.store import Clip, SkeletonStore
from igm_jax.skeleton import NTU25


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("inspect") / "made"
    clips = synthetic.generate(144)
    SkeletonStore.write(
        path,
        clips,
        source="tests",
        dataset="synthetic",
        layout=clips.layout,
        class_names=clips.class_names,
    )
    return SkeletonStore.open(path)


def inspect(*flags, cwd):
    return run(cwd, "inspect_data.py", *flags)


def test_tables_and_pictures(store, tmp_path):
    clip = store[40]
    result = inspect(str(store.path), f"--clips={clip.name}", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    for told in ("checksums are right", "144 (0 without a label)", "xview", *store.class_names[:3]):
        assert told in result.stdout
    assert "suggested" not in result.stdout, "the config of this data set decides"
    folder = tmp_path / "runs" / "inspect" / "made"
    with Image.open(folder / f"{clip.name}.gif") as gif:
        assert gif.n_frames == clip.frames.shape[1] and gif.info["loop"] == 0
    with Image.open(folder / "contact_sheet.png") as sheet:
        assert len(sheet.getcolors(1 << 20)) > 20


def test_bad_input_is_one_line(store, tmp_path):
    name = str(store[0].name)
    for flags, told in (
        ((), "which store?"),
        (("nowhere",), "is no skeleton store"),
        ((str(store.path), f"--clips={name}x"), f"did you mean {name!r}?"),
    ):
        result = inspect(*flags, cwd=tmp_path)
        assert result.returncode == 1 and told in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_own_data_gets_suggestions(tmp_path):
    clips = [Clip(f"c{i}", np.ones((1, 4, 25, 2), np.float32), camera=1 + i) for i in range(2)]
    SkeletonStore.write(
        tmp_path / "s", clips, layout=NTU25, class_names=[], source="tests", dataset="custom"
    )
    result = inspect("s", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    for told in ("suggested flag", "--config.data.camera=moving", "2 cameras", "posture"):
        assert told in result.stdout


def test_facts_against_loops(store):
    rows = {row["class"]: row for row in summary.classes(store)}
    for label, name in enumerate(store.class_names):
        mine = [clip for clip in store if clip.label == label]
        assert rows[name]["clips"] == len(mine)
        assert rows[name]["subjects"] == len({clip.subject for clip in mine})
        assert rows[name]["frames, median"] == int(np.median([c.frames.shape[1] for c in mine]))
    for row in summary.parts(store):
        for part in protocols.PARTS:
            assert row[part] == len(protocols.split(store, row["protocol"], part))


def test_missing_joints_and_reasons(tmp_path):
    frames = np.ones((1, 5, 25, 3), np.float32)
    frames[0, :2, 7] = 0
    frames[0, 4, 7, :2] = 0  # two zeros of three are a place
    frames[0, :, NTU25.origin] = 0
    clips = [Clip("a", frames), Clip("b", frames * np.nan), Clip("c", frames * np.inf)]
    SkeletonStore.write(
        tmp_path / "s", clips, layout=NTU25, class_names=[], source="tests", on_bad="skip"
    )
    store = SkeletonStore.open(tmp_path / "s")
    assert summary.missing_joints(store).tolist() == [2 * (j == 7) for j in range(25)]
    assert "most: left hand" in summary.overview(store)["missing joints"]
    assert summary.filled(store) == "none"
    (row,) = summary.left_out(store)
    assert (row["left out"], row["such as"]) == (2, "b")
    assert summary.classes(store) == []
    xsub, split = summary.parts(store)
    assert xsub["train"] == split["train"] == "-"  # nobody is known
    assert xsub["remark"].startswith("clip 'a' has no subject, protocol 'xsub' cuts by it")


def test_filled_joints_are_counted_and_old_stores_open(tmp_path):
    counts = tuple(3 * (j == 7) + (j == 2) for j in range(25))
    frames = np.ones((1, 5, 25, 3), np.float32)
    clips = [Clip("a", frames, filled=counts), Clip("b", frames), Clip("c", frames, filled=counts)]
    SkeletonStore.write(tmp_path / "s", clips, layout=NTU25, class_names=[], source="tests")
    told = "8 (2.133%) in 2 clips, most: left hand 6, neck 2"
    assert summary.overview(SkeletonStore.open(tmp_path / "s"))["filled joints"] == told
    file = tmp_path / "s" / "meta.json"
    meta = json.loads(file.read_text())
    assert meta["filled"] == {"clips": 2, "joints": [2 * n for n in counts]}
    del meta["filled"]
    file.write_text(json.dumps(meta))
    told = "not counted: prepare the data set again to know"
    assert summary.overview(SkeletonStore.open(tmp_path / "s"))["filled joints"] == told
