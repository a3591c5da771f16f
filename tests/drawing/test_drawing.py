import numpy as np
import pytest
from PIL import Image, ImageSequence

from igm_jax import drawing
from igm_jax.data import synthetic
from igm_jax.data.store import Clip
from igm_jax.drawing import canvas, projection
from igm_jax.errors import InputError
from igm_jax.skeleton import NTU25, Layout

FLAT = Layout("flat", ("a", "b", "c"), (-1, 0, 1), pairs=((1, 2),))
BARE = Layout("bare", ("a", "b", "c"), (-1, -1, -1))


@pytest.mark.parametrize("layout", [FLAT, BARE])
@pytest.mark.parametrize("shape", [(1, 1, 3, 2), (2, 7, 3, 2), (1, 3, 3, 3), (3, 4, 3, 3)])
@pytest.mark.parametrize("units", ["metres", "pixels"])
def test_anything_can_be_drawn(layout, shape, units, tmp_path):
    clip = Clip("x$1", np.random.default_rng(0).normal(size=shape).astype(np.float32))
    drawing.save_moving_picture(tmp_path / "x.gif", clip, layout, units)
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.n_frames == shape[1] and gif.info["loop"] == 0
        for picture in ImageSequence.Iterator(gif):
            assert np.any(np.asarray(picture.convert("L")) < 250)
    drawing.contact_sheet([clip] * 4, ["t"] * 4, layout, units)


@pytest.mark.parametrize("layout", [BARE, Layout("head", ("head",), (-1,))])
@pytest.mark.parametrize("opacity", [0.3, 1.0])
def test_dots_are_round_wherever_they_are(layout, opacity):
    """Matplotlib draws no line of length zero, and moves lines to whole pixels."""
    sizes = []
    for place in np.random.default_rng(0).uniform(0.4, 0.6, size=(20, 2)):
        figure, axes = canvas.paper(1.0, 1.0)
        strokes = canvas.Strokes()
        pose = np.full((1, layout.num_joints, 3), np.nan)
        pose[0, 0] = [*place, 0]
        canvas.add_pose(strokes, pose, layout, width=5.0, opacity=opacity)
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
    sides = canvas.bone_sides(NTU25)
    bones = dict(zip([j for j, _ in NTU25.bones], sides))
    assert bones[NTU25.joints.index("left hand")] == "left"
    assert bones[NTU25.joints.index("right knee")] == "right"
    assert bones[NTU25.joints.index("head")] == "trunk"
    for clip in list(synthetic.generate(9)):
        seen = projection.project(clip.frames[:1], NTU25, "metres")
        across = np.nanmean(seen[0, :, 16, 0] - seen[0, :, 12, 0])
        assert across < 0, clip.name


def test_compared_clips_are_seen_from_one_side():
    """One turn for both, so that drawing the sum is the sum of the drawings."""
    rng = np.random.default_rng(0)
    real, other = rng.normal(size=(2, 1, 4, 25, 3)).astype(np.float32)
    seen = [projection.project(x, NTU25, "metres", facing=real) for x in (real, other)]
    both = projection.project(real + other, NTU25, "metres", facing=real)
    np.testing.assert_allclose(both, sum(seen), atol=1e-5)
    np.testing.assert_array_equal(seen[0], projection.project(real, NTU25, "metres"))
    assert np.abs(seen[1] - projection.project(other, NTU25, "metres")).max() > 0.1
