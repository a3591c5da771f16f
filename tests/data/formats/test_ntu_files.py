import zipfile
import zlib

import numpy as np
import pytest
from ntu_names import samples

from igm_jax.data.formats import ntu60, ntu120, ntu_cleaning, ntu_files, ntu_missing
from igm_jax.data.formats.ntu_text import format_recording, record
from igm_jax.data.formats.sources import FORMATS
from igm_jax.data.store import BadClip, Clip
from igm_jax.errors import InputError

NAME = "S001C002P003R002A013"


def text(seed=0, **kwargs):
    rng = np.random.default_rng(seed)
    frames = rng.normal(size=(1, 15, 25, 3)) * [0.2, 0.8, 0.2]
    return format_recording(record(frames), digits=9, **kwargs)


def put(folder, *names, content=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.skeleton").write_bytes(content or text(zlib.crc32(name.encode())))
    return folder


def pack(path, entries, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **kwargs) as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content)
    return path


def names(clips):
    return [clip.name for clip in clips]


def test_what_a_name_says(tmp_path):
    (clip,) = ntu60.read(put(tmp_path, NAME))
    expected = (NAME, 12, 3, 2, 1, 0)  # label, subject, camera, setup, split
    assert clip.facts == expected
    assert ntu60.CLASS_NAMES[clip.label] == "tear up paper"
    assert clip.frames.shape == (1, 15, 25, 3)


def test_folder_archive_and_file_give_the_same(tmp_path):
    put(tmp_path / "raw" / "nturgb+d_skeletons", NAME, "S002C001P001R001A001")
    files = sorted((tmp_path / "raw").rglob("*.skeleton"))
    clips = list(ntu60.read(tmp_path / "raw"))
    assert names(clips) == [NAME, "S002C001P001R001A001"]
    path = pack(tmp_path / "s.zip", {f"nturgb+d_skeletons/{f.name}": f.read_bytes() for f in files})
    assert list(ntu60.read(path)) == clips
    assert list(ntu60.read(str(path))) == clips
    assert list(ntu60.read(files[0])) == clips[:1]


def test_both_archives_in_one_folder_in_the_order_of_names(tmp_path):
    first = {f"a/S0{n}C001P001R001A0{n}.skeleton": text(n) for n in (17, 10)}
    second = {f"S0{n}C001P001R001A1{n}.skeleton": text(n) for n in (20, 18)}
    pack(tmp_path / "2.zip", second)
    pack(tmp_path / "1.zip", first)
    clips = list(ntu120.read(tmp_path))
    assert names(clips) == [
        "S010C001P001R001A010",
        "S017C001P001R001A017",
        "S018C001P001R001A118",
        "S020C001P001R001A120",
    ]
    assert [clip.label for clip in clips] == [9, 16, 117, 119]
    assert names(ntu60.read(tmp_path)) == names(clips)[:2]


def test_what_belongs_to_which(tmp_path):
    given = [
        f"S{s:03d}C001P001R001A{a:03d}"
        for s in (0, 1, 17, 18, 32, 33)
        for a in (0, 1, 60, 61, 120, 121)
    ]
    put(tmp_path, *given)

    def inside(setups, actions):
        numbers = {name: (int(name[1:4]), int(name[-3:])) for name in given}
        return [n for n, (s, a) in numbers.items() if 1 <= s <= setups and 1 <= a <= actions]

    assert names(ntu60.read(tmp_path)) == inside(17, 60)
    assert len(inside(17, 60)) == 4
    assert names(ntu120.read(tmp_path)) == inside(32, 120)
    assert len(inside(32, 120)) == 16


def test_what_is_there_twice_is_read_once(tmp_path):
    put(tmp_path / "unpacked", NAME, content=text(1))
    pack(tmp_path / "a.zip", {f"{NAME}.skeleton": text(2)})
    (clip,) = ntu60.read(tmp_path)
    assert clip == ntu_files.read_clip(NAME, text(1))
    assert clip != ntu_files.read_clip(NAME, text(2))


def test_an_archive_writes_nothing_anywhere(tmp_path):
    inside = tmp_path / "deep" / "source"
    tricks = {
        f"../../{NAME}.skeleton": text(1),
        f"{tmp_path}/S001C001P001R001A001.skeleton": text(2),
        "..\\..\\S001C001P001R001A002.skeleton": text(3),
        "a/../../S001C001P001R001A003.skeleton": text(4),
        "S001C001P001R001A004.skeleton/evil.txt": b"x",
        "S001C001P001R001A005.skeleton.txt": b"x",
        "xS001C001P001R001A006.skeleton": text(5),
        "S001C001P001R001A\u0667\u0667\u0667.skeleton": text(6),
    }
    pack(inside / "a.zip", tricks)
    before = sorted(tmp_path.rglob("*"))
    clips = list(ntu60.read(inside))
    assert names(clips) == [
        "S001C001P001R001A001",
        "S001C001P001R001A002",
        "S001C001P001R001A003",
        NAME,
    ]
    assert clips[-1] == ntu_files.read_clip(NAME, text(1))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bad_file_is_named_and_the_rest_goes_on(tmp_path):
    good, cut, nobody = (f"S001C001P001R001A00{i}" for i in (1, 2, 3))
    put(tmp_path, good)
    put(tmp_path, cut, content=text()[:500])
    put(tmp_path, nobody, content=b"2\r\n0\r\n0\r\n")
    clip, *bad = ntu60.read(tmp_path)
    assert isinstance(clip, Clip)
    assert [type(b) for b in bad] == [BadClip] * 2
    assert bad[0].name == cut
    assert bad[0].reason.startswith("line 9: expected the 12 fields of joint 5 of 25, found ")
    assert bad[1] == BadClip(nobody, "no usable body: none in any of 2 frames")


def test_a_bad_entry_of_an_archive_is_named_and_the_rest_goes_on(tmp_path):
    other = "S001C001P001R001A001"
    path = pack(tmp_path / "a.zip", {f"{other}.skeleton": text(1), f"{NAME}.skeleton": text(2)})
    raw = bytearray(path.read_bytes())
    start = raw.index(NAME.encode()) + len(NAME) + 200
    raw[start : start + 50] = bytes(50)
    path.write_bytes(raw)
    clip, bad = ntu60.read(path)
    assert clip == ntu_files.read_clip(other, text(1))
    assert bad.name == NAME
    assert bad.reason.startswith("cannot be read (")


def test_a_file_without_end_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(ntu_files, "_MAX_BYTES", 1 << 20)
    path = pack(tmp_path / "a.zip", {f"{NAME}.skeleton": b"0" * (2 << 20)})
    put(tmp_path / "raw", NAME, content=b"0" * (2 << 20))
    for source in (path, tmp_path / "raw"):
        (bad,) = ntu60.read(source)
        assert bad == BadClip(NAME, "cannot be read (is longer than 1 MB)")


def test_the_official_list_of_missing_skeletons():
    assert len(ntu_missing.NAMES) == 302 + 233
    for setups, count in ((17, 302), (32, 535)):
        assert len(ntu_missing.NAMES & {name for name, *_ in samples(setups)}) == count


def test_samples_with_missing_skeletons_are_left_out_unread(tmp_path):
    listed = ["S017C003P020R001A059", "S032C003P067R002A077"]
    put(tmp_path, NAME)
    put(tmp_path, *listed, content=b"never read")
    official = "has missing or incomplete skeletons, by the official list"
    clip, *bad = ntu120.read(tmp_path)
    assert clip.name == NAME
    assert bad == [BadClip(name, official, published=True) for name in listed]
    assert list(ntu60.read(tmp_path)) == [clip, bad[0]]


def test_a_further_list_of_missing_skeletons_is_heeded(tmp_path):
    other, official = "S001C001P001R001A001", "S001C002P005R002A008"
    put(tmp_path, NAME, other, official)
    listing = tmp_path / "NTU_RGBD_samples_with_missing_skeletons.txt"
    listing.write_text(f"302 samples\r\n\r\n{NAME}\r\nS009C001P001R001A001\r\n")
    clip, bad, also = ntu60.read(tmp_path)
    assert clip.name == other
    assert bad == BadClip(NAME, f"is listed in {listing.name}", published=True)
    assert also.name == official


@pytest.mark.parametrize("module", [ntu60, ntu120])
def test_missing_sources_say_how_to_get_them(module, tmp_path):
    (tmp_path / "empty").mkdir()
    damaged = tmp_path / "a.zip"
    damaged.write_bytes(b"PK no archive")
    ours = f"prepare_data.py --dataset={module.DATASET} --source="
    for source in (tmp_path / "nowhere", tmp_path / "empty"):
        with pytest.raises(InputError, match=f"^{source}: no .*s001_to_s017.zip.*{ours}"):
            module.read(source)
    with pytest.raises(InputError, match=f"^{damaged}: .*not a zip file: download it again"):
        module.read(damaged)


def test_the_data_sets_are_registered():
    for module, count in ((ntu60, 60), (ntu120, 120)):
        assert FORMATS[module.DATASET] is module
        assert len(set(module.CLASS_NAMES)) == count
        assert module.CLEANING == ntu_cleaning.DEFAULT_STEPS
    assert ntu120.CLASS_NAMES[:60] == ntu60.CLASS_NAMES
    named = {
        1: "drink water",
        43: "falling",
        50: "punching/slapping other person",
        60: "walking apart from each other",
        61: "put on headphone",
        100: "butt kicks (kick backward)",
        112: "high-five",
    }
    assert {n: ntu120.CLASS_NAMES[n - 1] for n in named} == named
