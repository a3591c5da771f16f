import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from igm_jax.data import drawing, protocols, summary, synthetic
from igm_jax.data.store import Clip, SkeletonStore
from igm_jax.errors import InputError
from igm_jax.skeleton import NTU25, Layout

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("inspect") / "made"
    clips = synthetic.generate(144)
    SkeletonStore.write(path, clips, source="tests", dataset="synthetic", layout=clips.layout,
                        class_names=clips.class_names)  # fmt: skip
    return SkeletonStore.open(path)


def inspect(*flags, cwd):
    command = [sys.executable, str(ROOT / "experiments" / "inspect_data.py"), *flags]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_tables_and_pictures(store, tmp_path):
    clip = store[40]
    result = inspect(str(store.path), f"--clips={clip.name}", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    for told in ("checksums are right", "144 (0 without a label)", "xview", *store.class_names[:3]):
        assert told in result.stdout
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
    SkeletonStore.write(tmp_path / "s", clips, layout=NTU25, class_names=[], source="tests",
                        on_bad="skip")  # fmt: skip
    store = SkeletonStore.open(tmp_path / "s")
    assert summary.missing_joints(store).tolist() == [2 * (j == 7) for j in range(25)]
    assert "most: left hand" in summary.overview(store)["missing joints"]
    (row,) = summary.left_out(store)
    assert (row["left out"], row["such as"]) == (2, "b")
    assert summary.classes(store) == []
    assert {row["train"] for row in summary.parts(store)} == {"-"}  # nobody is known


FLAT = Layout("flat", ("a", "b", "c"), (-1, 0, 1), pairs=((1, 2),))
BARE = Layout("bare", ("a", "b", "c"), (-1, -1, -1))


@pytest.mark.parametrize("layout", [FLAT, BARE])
@pytest.mark.parametrize("shape", [(1, 1, 3, 2), (2, 7, 3, 2), (1, 3, 3, 3), (3, 4, 3, 3)])
@pytest.mark.parametrize("units", ["metres", "pixels"])
def test_anything_can_be_drawn(layout, shape, units):
    clip = Clip("x$1", np.random.default_rng(0).normal(size=shape).astype(np.float32))
    pictures = list(drawing.moving_picture(clip, layout, units))
    assert len(pictures) == shape[1] and len({p.shape for p in pictures}) == 1
    assert all((picture != 255).any() for picture in pictures)
    drawing.contact_sheet([clip] * 4, ["t"] * 4, layout, units)


@pytest.mark.parametrize("layout", [BARE, Layout("head", ("head",), (-1,))])
@pytest.mark.parametrize("opacity", [0.3, 1.0])
def test_dots_are_round_wherever_they_are(layout, opacity):
    """Matplotlib draws no line of length zero, and moves lines to whole pixels."""
    sizes = []
    for place in np.random.default_rng(0).uniform(0.4, 0.6, size=(20, 2)):
        figure, axes = drawing._paper(1.0, 1.0)
        strokes = drawing.Strokes()
        pose = np.full((1, layout.num_joints, 3), np.nan)
        pose[0, 0] = [*place, 0]
        drawing.add_pose(strokes, pose, layout, width=5.0, opacity=opacity)
        axes.add_collection(strokes.collection())
        figure.canvas.draw()
        ink = 255.0 - np.asarray(figure.canvas.buffer_rgba())[..., 0]
        rows, columns = (np.ptp(np.flatnonzero(ink.any(axis=i))) for i in (0, 1))
        assert abs(rows - columns) <= 2
        sizes.append(ink.sum())
    assert min(sizes) > 0.9 * max(sizes) > 0


def test_a_point_on_a_line_cannot_be_drawn():
    clip = Clip("x", np.zeros((1, 2, 3, 1), np.float32))
    with pytest.raises(InputError, match="1 coordinate cannot be drawn"):
        drawing.contact_sheet([clip], ["t"], BARE, "metres")


def test_left_and_right_are_told_apart_and_people_face_the_viewer():
    """The left hand of somebody who faces the viewer is at the right of the picture."""
    sides = drawing.bone_sides(NTU25)
    bones = dict(zip([j for j, _ in NTU25.bones], sides))
    assert bones[NTU25.joints.index("left hand")] == "left"
    assert bones[NTU25.joints.index("right knee")] == "right"
    assert bones[NTU25.joints.index("head")] == "trunk"
    for clip in list(synthetic.generate(9)):
        seen = drawing.project(clip.frames[:1], NTU25, "metres")
        across = np.nanmean(seen[0, :, 16, 0] - seen[0, :, 12, 0])
        assert across < 0, clip.name
