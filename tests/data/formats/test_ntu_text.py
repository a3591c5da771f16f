import dataclasses

import numpy as np
import pytest

from igm_jax.data import synthetic
from igm_jax.data.formats import ntu_text, ntu_writer
from igm_jax.data.formats.ntu_text import format_recording, parse, record
from igm_jax.errors import InputError


def naive_parse(text):
    """Line by line, as readers of these files usually are."""
    lines = iter(text.decode("latin-1").splitlines())
    num_frames, rows = int(next(lines)), []
    for frame in range(num_frames):
        for _ in range(int(next(lines))):
            head = next(lines).split()
            joints = [next(lines).split() for _ in range(int(next(lines)))]
            xyz = [[float(x) for x in joint[:3]] for joint in joints]
            rows.append((frame, int(head[0]), xyz, [int(joint[11]) for joint in joints]))
    frame, body, joints, tracking = zip(*rows) if rows else ((), (), (), ())
    return ntu_text.Recording(
        num_frames,
        np.array(frame, int),
        np.array(body, int),
        np.array(joints, np.float32).reshape(-1, 25, 3),
        np.array(tracking, np.uint8).reshape(-1, 25),
    )


def same(a, b):
    for field in dataclasses.fields(ntu_text.Recording):
        x, y = getattr(a, field.name), getattr(b, field.name)
        np.testing.assert_array_equal(x, y, err_msg=field.name, strict=True)
    return True


def scene(frames=9, seed=0):
    """Two people of whom each is lost for a while, a frame of nobody, joints not tracked."""
    rng = np.random.default_rng(seed)
    seen = rng.random((2, frames)) < 0.7
    seen[:, 4] = False
    recording = record(rng.normal(size=(2, frames, 25, 3)) * [0.3, 0.5, 0.3] + [0, 0, 3], seen)
    tracking = rng.integers(0, 3, recording.tracking.shape).astype(np.uint8)
    return dataclasses.replace(recording, tracking=tracking)


@pytest.mark.parametrize("crlf", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_nine_digits_keep_every_bit(seed, crlf):
    recording = scene(seed=seed)
    text = format_recording(recording, digits=9, crlf=crlf)
    assert (b"\r\n" in text) == crlf
    assert same(parse(text), recording)
    assert same(naive_parse(text), recording)


def test_genuine_looking_files_are_read_as_line_by_line(tmp_path):
    folder = ntu_writer.write(tmp_path / "raw", list(synthetic.generate(72))[::12])
    texts = [path.read_bytes() for path in folder.iterdir()]
    assert {b"\r" in text for text in texts} == {True, False}
    for text in texts:
        assert len(parse(text)) > 100 and same(parse(text), naive_parse(text))


def test_seven_digits_are_those_of_the_sensor():
    recording = scene()
    parsed = parse(format_recording(recording))
    np.testing.assert_allclose(parsed.joints, recording.joints, rtol=5e-7, atol=0)
    assert not np.array_equal(parsed.joints, recording.joints)
    assert same(dataclasses.replace(parsed, joints=recording.joints), recording)


NUMBERS = [
    "0", "-0", "1", "-12", "0.5", "-.5", "5.", "-0.2059419", "0.05349901", "3.785547", "+2.5",
    "123456789012345", "1234567.8901234", "0.00000000000001", "0.12345678901234567", "1e3",
    "-1.5E-05", "9.313226E-10", "999999999999.99", "16777217", "0.1", "-100.0625", "00.5",
]  # fmt: skip


def test_numbers_in_all_spellings():
    numbers = np.resize(NUMBERS, 75)
    joints = "".join(f"{' '.join(xyz)} 0 0 0 0 0 0 0 0 2\n" for xyz in numbers.reshape(25, 3))
    parsed = parse(f"1\n1\n7 0 0 0 0 0 0 0 0 2\n25\n{joints}".encode())
    expected = np.array([float(number) for number in numbers]).astype(np.float32)
    assert parsed.joints.ravel().tolist() == expected.tolist()


@pytest.mark.parametrize("digits", [1, 5, 7, 9, 12, 15, 17])
@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1.0, 1e4])
def test_numbers_of_all_sizes(scale, digits):
    recording = dataclasses.replace(scene(), joints=(scene().joints * scale).astype(np.float32))
    text = format_recording(recording, digits=digits)
    assert same(parse(text), naive_parse(text))


def test_numbers_read_in_bulk_are_exact():
    rng = np.random.default_rng(0)
    numbers = []
    for length in np.resize(np.arange(1, 20), 4000):
        number = rng.choice(list("0123456789"), size=length)
        if rng.random() < 0.8:
            number[rng.integers(length)] = "."
        numbers.append("-" * rng.integers(2) + "".join(number))
    raw = np.frombuffer((" " * 16 + " ".join(numbers) + "\n").encode(), np.uint8)
    ends = np.flatnonzero(raw <= 32)[15:]
    values, known = ntu_text._decimals(raw, ends[:-1] + 1, ends[1:])
    assert known.mean() > 0.7
    for number, value in zip(np.array(numbers)[known], values[known]):
        assert float(number) == value, number


def test_body_ids_are_exact():
    recording = dataclasses.replace(scene(), body=72057594037931101 + np.arange(len(scene())))
    assert same(parse(format_recording(recording, digits=9)), recording)


def test_nobody_is_no_error():
    assert len(parse(b"2\n0\n0\n")) == 0
    assert parse(b"2\n0\n0\n").num_frames == 2
    assert parse(b"0\n").num_frames == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.rstrip(b"\n"),
        lambda text: text + b"\n \r\n",
        lambda text: text.replace(b"\n", b" \n"),
        lambda text: text.replace(b" ", b"\t"),
        lambda text: text.replace(b" ", b"  "),
        lambda text: text.replace(b"\n", b"\r\n", 20),
    ],
    ids=["no end", "more ends", "space before end", "tabs", "wide", "mixed ends"],
)
def test_white_space_does_not_matter(change):
    text = format_recording(scene(), digits=9)
    assert change(text) != text
    assert same(parse(change(text)), scene())


def test_other_columns_are_not_read():
    text = format_recording(scene(), digits=9)
    changed = text.replace(b" 0 0 0 0 2\n", b" NaN -Infinity -1.#IND x 2\n")
    assert changed != text
    assert same(parse(changed), scene())


# A file of two frames of two bodies: line 2 and 57 count bodies, bodies begin at 3, 30, 58, 85.
TEXT = format_recording(record(np.random.default_rng(1).normal(size=(2, 2, 25, 3))))
LINES = TEXT.decode().splitlines()


def test_the_lines_are_where_the_cases_think():
    assert len(LINES) == 111
    assert (LINES[0], LINES[1], LINES[56], LINES[3]) == ("2", "2", "2", "25")
    assert [len(LINES[i - 1].split()) for i in (3, 30, 58, 85)] == [10] * 4


CUT = {  # lines that are left: what is expected in the next
    0: "line 1: expected the number of frames",
    1: "line 2: expected the number of bodies",
    2: "line 3: expected the 10 fields of a body",
    3: "line 4: expected the number of joints, 25",
    4: "line 5: expected the 12 fields of joint 1 of 25",
    20: "line 21: expected the 12 fields of joint 17 of 25",
    29: "line 30: expected the 10 fields of a body",
    56: "line 57: expected the number of bodies",
    110: "line 111: expected the 12 fields of joint 25 of 25",
}


@pytest.mark.parametrize(("left", "told"), CUT.items())
def test_cut_short_between_lines(left, told):
    text = "".join(line + "\n" for line in LINES[:left]).encode()
    for cut in (text, text.rstrip(b"\n"), text.replace(b"\n", b"\r\n")):
        with pytest.raises(InputError, match=f"^{told}.*, found the end of the file$"):
            parse(cut)


@pytest.mark.parametrize("line", [3, 5, 29, 30, 111])
def test_cut_short_within_a_line(line):
    fields = " ".join(LINES[line - 1].split()[:4])
    text = "".join(line + "\n" for line in LINES[: line - 1]) + fields
    with pytest.raises(InputError, match=rf"^line {line}: expected the 1[02] fields .*, found '"):
        parse(text.encode())


def test_every_cut_is_noticed():
    lossless = len(TEXT.rstrip())
    for length in range(0, lossless, 7):
        with pytest.raises(InputError, match=r"^line \d+: expected "):
            parse(TEXT[:length])


JOINT = "0 0 0 0 0 0 0 0 0 0 0 2"
BAD = {  # line, what it is changed to, what is expected
    "frames word": (1, "two", "the number of frames, found 'two'"),
    "frames negative": (1, "-2", "the number of frames, found '-2'"),
    "frames point": (1, "2.0", "the number of frames"),
    "frames few": (1, "1", "the end of the file after 1 frames, found '2'", 57),
    "frames more": (1, "3", "the number of bodies in a frame, found the end", 112),
    "frames huge": (1, "9" * 18, "the number of bodies in a frame, found the end", 112),
    "frames absurd": (1, "9" * 5000, "the number of frames, found '999"),
    "frames underscore": (1, "0_2", "the number of frames"),
    "blank": (1, "", "the number of frames, found ''"),
    "bodies word": (57, "x", "the number of bodies"),
    "bodies negative": (57, "-1", "the number of bodies in a frame, found '-1'"),
    "bodies more": (57, "3", "the 10 fields of a body, found the end", 112),
    "bodies huge": (57, "9" * 18, "the 10 fields of a body, found the end", 112),
    "bodies few": (2, "1", "the number of bodies in a frame, found '7205", 30),
    "bodies none": (2, "0", "the number of bodies in a frame, found '7205", 3),
    "head short": (30, "7 0 0", "the 10 fields of a body, found '7 0 0'"),
    "head long": (30, "7" + " 0" * 300, "the 10 fields of a body"),
    "id word": (30, "x 0 0 0 0 0 0 0 0 2", "the ID of a body, found 'x 0"),
    "id negative": (30, "-7 0 0 0 0 0 0 0 0 2", "the ID of a body"),
    "id huge": (30, "9" * 19 + " 0 0 0 0 0 0 0 0 2", "the ID of a body"),
    "id twice": (30, LINES[2], "2 different body IDs", 3),
    "joints fewer": (31, "24", "the number of joints, 25, found '24'"),
    "joints huge": (31, "9" * 18, "the number of joints, 25"),
    "joints negative": (31, "-25", "the number of joints, 25"),
    "joints odd": (31, "025", "the number of joints, 25"),
    "joint short": (40, "0 0 0 0 0 0 0 0 0 0 0", "the 12 fields of joint 9 of 25"),
    "joint long": (40, JOINT + " 2", "the 12 fields of joint 9 of 25"),
    "joint lost": (40, None, "the 12 fields of joint 25 of 25, found '2'", 56),
    "NaN": (40, JOINT.replace("0", "NaN", 1), "finite numbers x y z"),
    "infinity": (111, "0 0 -Infinity 0 0 0 0 0 0 0 0 2", "finite numbers x y z"),
    "overflow": (5, "0 1e39 0 0 0 0 0 0 0 0 0 2", "finite numbers x y z"),
    "word": (40, "0 x 0 0 0 0 0 0 0 0 0 2", "finite numbers x y z, found '0 x 0"),
    "two points": (40, "0 0 1.2.3 0 0 0 0 0 0 0 0 2", "finite numbers x y z"),
    "lone point": (40, ". 0 0 0 0 0 0 0 0 0 0 2", "finite numbers x y z"),
    "lone minus": (40, "0 - 0 0 0 0 0 0 0 0 0 2", "finite numbers x y z"),
    "two minus": (40, "--1 0 0 0 0 0 0 0 0 0 0 2", "finite numbers x y z"),
    "minus within": (40, "1-1 0 0 0 0 0 0 0 0 0 0 2", "finite numbers x y z"),
    "underscore": (40, "1_0 0 0 0 0 0 0 0 0 0 0 2", "finite numbers x y z"),
    "NUL": (40, "\0 0 0 0 0 0 0 0 0 0 0 2", "the 12 fields of joint 9|finite numbers"),
    "state 3": (40, JOINT[:-1] + "3", "tracking state 0, 1 or 2"),
    "state word": (40, JOINT[:-1] + "12", "tracking state 0, 1 or 2"),
    "state minus": (40, JOINT[:-1] + "-1", "tracking state 0, 1 or 2"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_damage_is_named_with_its_line(case):
    line, text, expected, *told_in = case
    lines = [*LINES[: line - 1], *([] if text is None else [text]), *LINES[line:], ""]
    told = rf"^line {(told_in or [line])[0]}: expected .*({expected})"
    for end in ("\n", "\r\n"):
        with pytest.raises(InputError, match=told):
            parse(end.join(lines).encode("latin-1"))


def test_the_first_damage_is_named():
    lines = list(LINES)
    lines[39], lines[49] = "0 NaN 0 0 0 0 0 0 0 0 0 2", "x 0 0 0 0 0 0 0 0 0 0 2"
    with pytest.raises(InputError, match=r"^line 40: .*finite"):
        parse("\n".join(lines).encode())


def test_random_damage_is_read_as_line_by_line_or_is_an_error_with_a_line():
    rng = np.random.default_rng(0)
    short = np.frombuffer(TEXT[: len("\n".join(LINES[:56])) + 1], np.uint8).copy()
    short[0] = ord("1")
    whole = parse(short.tobytes())
    refused = changed = 0
    for _ in range(400):
        text = short.copy()
        damage = rng.choice(list(b"0123456789 -.\nNx\0\xff"), size=2)
        text[rng.integers(len(text), size=2)] = damage
        try:
            recording = parse(text.tobytes())
        except InputError as error:
            assert str(error).startswith("line ")
            refused += 1
        else:
            # NUL separates fields, as every byte up to the space does.
            assert same(recording, naive_parse(text.tobytes().replace(b"\0", b" ")))
            changed += not np.array_equal(recording.joints, whole.joints)
    assert refused > 20 and changed > 20


def test_rows_of_bodies_come_in_the_order_of_their_first_rows():
    recording = dataclasses.replace(record(np.zeros((1, 5, 25, 3))), body=np.array([9, 3, 9, 5, 3]))
    assert [rows.tolist() for rows in recording.bodies] == [[0, 2], [1, 4], [3]]
    assert recording.take(np.zeros(5, bool)).bodies == []
