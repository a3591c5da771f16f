import copyreg
import io
import os
import pathlib
import pickle
import struct
import sys
import tracemalloc
import types

import numpy as np
import pytest

from igm_jax.data.formats import plain_pickle
from igm_jax.data.formats.plain_pickle import Array
from igm_jax.errors import InputError

RNG = np.random.default_rng(0)
PLAIN = {
    "split": {"train": ["a", "b"], "val": []},
    "numbers": [1, -(2**80), 0.5, True, None, b"bytes", b"", ("tuple", (1, 2))],
    "scalars": [np.int64(7), np.float32(0.5), np.bool_(True)],
    "arrays": [
        RNG.normal(size=(2, 5, 17, 2)).astype(np.float16),
        np.asfortranarray(RNG.normal(size=(3, 4))),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.zeros((0, 4, 17, 2), np.float32),
        np.array([True, False]),
        np.arange(3, dtype=np.uint8),
    ],
}


def put(tmp_path, content):
    path = tmp_path / "file.pkl"
    path.write_bytes(content)
    return path


class NumPy1(pickle._Pickler):
    """Writes the module names of NumPy 1, which most files have."""

    def save_global(self, thing, name=None):
        if thing.__module__.startswith("numpy._core"):
            module = thing.__module__.replace("_core", "core")
            self.write(f"c{module}\n{thing.__name__}\n".encode())
            self.memoize(thing)
        else:
            super().save_global(thing, name)

    def memoize(self, thing):
        if id(thing) not in self.memo:  # Python's pickler stumbles over a second b""
            super().memoize(thing)

    dispatch = pickle._Pickler.dispatch | {types.FunctionType: save_global}
    dispatch[types.BuiltinFunctionType] = save_global


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("numpy_1", [False, True])
def test_round_trip(protocol, numpy_1, tmp_path):
    (NumPy1 if numpy_1 else pickle.Pickler)(file := io.BytesIO(), protocol).dump(PLAIN)
    content = file.getvalue()
    assert (b"numpy._core" in content) != numpy_1
    back = plain_pickle.load(put(tmp_path, content))
    assert back.keys() == PLAIN.keys()
    assert back["split"] == PLAIN["split"] and back["numbers"] == PLAIN["numbers"]
    assert back["scalars"] == [7, 0.5, True]
    assert [type(number) for number in back["scalars"]] == [int, float, bool]
    for found, expected in zip(back["arrays"], PLAIN["arrays"], strict=True):
        assert isinstance(found, Array)
        assert found.array.dtype == expected.dtype
        assert np.array_equal(found.array, expected)


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function, *args, state=None):
        self.call = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.call


class Foreign(np.ndarray):
    pass


def touch(path):
    path.touch()


def attacks(sentinel):
    """Name → (object, what is told)."""
    multiarray = sys.modules[np.array(0).__reduce__()[0].__module__]
    reconstruct, scalar = multiarray._reconstruct, multiarray.scalar
    npy = sentinel.with_name("evil.npy")
    np.save(npy, np.array([Calls(os.system, f"touch {sentinel}")], dtype=object))
    objects = np.array([Calls(os.system, f"touch {sentinel}")], dtype=object)
    return {
        "system": (Calls(os.system, f"touch {sentinel}"), "posix.system"),
        "eval": (Calls(eval, f"open({str(sentinel)!r}, 'w')"), r"builtin\w*.eval"),
        "exec": (Calls(exec, f"open({str(sentinel)!r}, 'w')"), r"builtin\w*.exec"),
        "getattr": (Calls(getattr, (1).__class__, "mro"), r"builtin\w*.getattr"),
        "open": (Calls(open, str(sentinel), "w"), "open"),
        "own function": (Calls(touch, sentinel), "test_plain_pickle.touch"),
        "in an array": (objects, "posix.system|dtype O8|array of objects"),
        "numpy.load": (Calls(np.load, str(npy), None, True), "numpy.load"),
        "numpy.fromfile": (Calls(np.fromfile, str(npy)), "numpy.fromfile"),
        "numpy.save": (Calls(np.save, str(sentinel), 1), "numpy.save"),
        "numpy.memmap": (Calls(np.memmap, str(sentinel), "u1", "w+", 0, (9,)), "memmap"),
        "object scalar": (
            Calls(scalar, np.dtype(object), pickle.dumps(Calls(os.system, f"touch {sentinel}"))),
            "dtype O8",
        ),
        "foreign class": (Calls(reconstruct, Foreign, (0,), b"b"), "test_plain_pickle.Foreign"),
        "masked": (np.ma.array([1.0]), "numpy.ma"),
        "structured": (np.zeros(2, [("a", "O")]), "dtype V8"),
        "text array": (np.array(["x"]), "dtype U1"),
        "ctypes": (Calls(__import__, "ctypes"), r"builtin\w*.__import__"),
        "class": (pathlib.PurePosixPath("x"), "PurePosixPath|_reconstructor"),
        "codec": (Calls(__import__("codecs").encode, "x", "rot13"), "encoding rot13"),
    }


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("attack", [
    "system", "eval", "exec", "getattr", "open", "own function", "in an array", "numpy.load",
    "numpy.fromfile", "numpy.save", "numpy.memmap", "object scalar", "foreign class", "masked",
    "structured", "text array", "ctypes", "class", "codec",
])  # fmt: skip
def test_what_is_no_data_is_refused_by_name_and_not_executed(attack, protocol, tmp_path):
    sentinel = tmp_path / "executed"
    thing, told = attacks(sentinel)[attack]
    path = put(tmp_path, pickle.dumps({"annotations": [thing]}, protocol))
    with pytest.raises(InputError, match=f"{path}: holds .*({told}).*refused.*nothing in it was"):
        plain_pickle.load(path)
    assert not sentinel.exists()


def test_the_attacks_are_real(tmp_path):
    """Python's own reader falls for them, so the test above can fail."""
    sentinel = tmp_path / "executed"
    pickle.loads(pickle.dumps(attacks(sentinel)["system"][0]))
    assert sentinel.exists()


class Persistent(pickle.Pickler):
    def persistent_id(self, thing):
        return "somewhere" if thing == "there" else None


def test_a_persistent_id_is_refused(tmp_path):
    for protocol in (0, 4):
        Persistent(file := io.BytesIO(), protocol).dump(["there"])
        with pytest.raises(InputError, match="reference to something outside"):
            plain_pickle.load(put(tmp_path, file.getvalue()))


def test_a_registered_extension_is_refused(tmp_path):
    copyreg.add_extension("posix", "system", 240)
    try:
        content = pickle.dumps(os.system, 2)
    finally:
        copyreg.remove_extension("posix", "system", 240)
    assert b"system" not in content
    with pytest.raises(InputError, match="extension 240"):
        plain_pickle.load(put(tmp_path, content))


# Programs that no pickler writes. GLOBAL is c, REDUCE R, NEWOBJ \x81, BUILD b, INST i, STOP a dot.
ENCODE = b"c_codecs\nencode\n"


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (b"(S'touch x'\niposix\nsystem\n.", "holds posix.system"),
        (b"(cposix\nsystem\nS'x'\no.", "holds posix.system"),
        (ENCODE + b"}(V_left\nI1000000\nu\x86b.", "is damaged|change of what a name means"),
        (ENCODE + b"N}V_left\n]I1000000\nas\x86b.", "change of what a name means"),
        (b"cnumpy\nndarray\n}V__class__\nI1\nsb.", "change of what a name means"),
        (b"cnumpy\nndarray\n)\x81.", "is damaged"),
        (b"cnumpy\nndarray\n)R.", "is damaged"),
        (b"cnumpy.core.multiarray\n_reconstruct\nNtR.", "is damaged"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(I1\ntR.", "array of a foreign class"),
        (b"cnumpy\ndtype.__new__\n.", "holds numpy.dtype.__new__"),
        (b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.", "__globals__"),
        (b"", "is damaged"),
        (b"no pickle at all", "is damaged"),
        (b"I" + b"9" * 10_000 + b"\n.", "is damaged"),
        (b"\x80\x63.", "is damaged"),
    ],
)
def test_forged_programs(program, told, tmp_path):
    with pytest.raises(InputError, match=told) as error:
        plain_pickle.load(put(tmp_path, program))
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def array_of(shape, content=b"\0" * 8, spec="f4"):
    """The program of an array whose state promises `shape`."""
    state = pickle.dumps((1, shape, np.dtype(spec), False, content), 4)
    return (
        b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n"
        b"(cnumpy\nndarray\nI0\n\x85C\x01btR" + state[2:-1] + b"b."
    )


@pytest.mark.parametrize(
    "program",
    [
        array_of((1 << 40,)),
        array_of((3,)),
        array_of((1 << 62, 1 << 62)),
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 37) + b".",  # a bytearray
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 37) + b".",  # bytes
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 37) + b".",  # text
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 37) + b".",  # a frame
        b"\x80\x02Nr" + struct.pack("<I", (1 << 32) - 1) + b"j\0\0\0\1.",  # what is not remembered
    ],
    ids=["flat", "small", "overflow", "bytearray", "bytes", "text", "frame", "memo"],
)
def test_promises_claim_no_memory(program, tmp_path):
    path = put(tmp_path, program)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="is damaged"):
            plain_pickle.load(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_an_honest_array_of_that_program_is_read(tmp_path):
    assert plain_pickle.load(put(tmp_path, array_of((2,)))).array.tolist() == [0.0, 0.0]


def test_one_text_encoded_again_and_again(tmp_path):
    """A megabyte, made into bytes a thousand times: a gigabyte from a small file."""
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\0"
    again = ENCODE + b"h\0Vlatin1\n\x86R"
    path = put(tmp_path, b"\x80\x02](" + text + again * 1000 + b"e.")
    with pytest.raises(InputError, match="more bytes than it is long"):
        plain_pickle.load(path)


def test_deep_nesting(tmp_path):
    deep = plain_pickle.load(put(tmp_path, b"]" * 20_000 + b"a" * 19_999 + b"."))
    assert isinstance(deep, list)
    told = ENCODE + b"V" + b"x" + b"\n" + b"]" * 20_000 + b"a" * 19_999 + b"\x86R."
    with pytest.raises(InputError, match="encoding list"):
        plain_pickle.load(put(tmp_path, told))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_file_cut_short(protocol, tmp_path):
    content = pickle.dumps(PLAIN, protocol)
    for length in range(0, len(content), 37):
        with pytest.raises(InputError, match=r"is damaged|holds numpy"):  # half a name is a name
            plain_pickle.load(put(tmp_path, content[:length]))


def test_flipped_bits_are_an_error_or_data(tmp_path):
    content = pickle.dumps(PLAIN, 4)
    rng = np.random.default_rng(0)
    for _ in range(300):
        forged = bytearray(content)
        forged[rng.integers(len(forged))] ^= 1 << rng.integers(8)
        try:
            plain_pickle.load(put(tmp_path, bytes(forged)))
        except InputError as error:
            assert "\n" not in str(error)
