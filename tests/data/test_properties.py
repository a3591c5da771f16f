"""Properties that hold for every input, tried on inputs of hypothesis."""

import dataclasses

import hypothesis.extra.numpy as arrays
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from igm_jax.data.formats.ntu_text import format_recording, parse, record
from igm_jax.data.store import Clip, SkeletonStore
from igm_jax.errors import InputError
from igm_jax.skeleton import Layout

_quick = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,  # the same inputs every time: a test run tells of the change under test
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
_coordinates = st.floats(-(2.0**100), 2.0**100, width=32)
_number = st.integers(0, 2**31 - 1)


@st.composite
def stores(draw):
    """Clips of one layout with distinct names."""
    joints, channels = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    names = draw(
        st.lists(
            st.text(min_size=1, max_size=9).filter(str.isprintable),
            min_size=1,
            max_size=6,
            unique=True,
        )
    )
    clips = []
    for name in names:
        shape = (draw(st.integers(1, 3)), draw(st.integers(1, 5)), joints, channels)
        frames = draw(arrays.arrays(np.float32, shape, elements=_coordinates))
        clips.append(Clip(name, frames, draw(st.integers(-1, 2)), *(draw(_number) for _ in "1234")))
    layout = Layout("any", tuple(map(str, range(joints))), (-1,) * joints)
    return clips, layout


@_quick
@given(stores())
def test_what_is_written_is_read(tmp_path_factory, content):
    clips, layout = content
    path = tmp_path_factory.mktemp("store") / "store"
    names = ["a", "b", "c"]
    SkeletonStore.write(path, clips, layout=layout, class_names=names, source="tests")
    store = SkeletonStore.open(path)
    assert list(store) == clips
    SkeletonStore.verify(path)


@_quick
@given(
    arrays.arrays(np.float32, (2, 3, 25, 3), elements=_coordinates),
    arrays.arrays(bool, (2, 3)),
    st.booleans(),
)
def test_nine_digits_keep_any_recording(frames, seen, crlf):
    recording = record(frames, seen)
    back = parse(format_recording(recording, digits=9, crlf=crlf))
    for field in dataclasses.fields(recording):
        ours, theirs = getattr(recording, field.name), getattr(back, field.name)
        assert np.array_equal(ours, theirs), field.name


@_quick
@given(st.binary(max_size=300), st.integers(0, 3000))
def test_any_bytes_are_a_recording_or_an_error_with_a_line(junk, place):
    text = format_recording(record(np.ones((1, 1, 25, 3), np.float32)))
    try:
        parse(text[:place] + junk + text[place:])
    except InputError as error:
        assert str(error).startswith("line ")
