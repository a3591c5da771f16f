"""Exported encoders give the features of the run, without this library."""

import dataclasses
import functools
import json
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igm_jax
from igm_jax.errors import InputError
from igm_jax.evaluation import export, mamp
from igm_jax.evaluation.export import export_stablehlo
from igm_jax.evaluation.export_onnx import export_onnx
from igm_jax.evaluation.head import Head, linear_logits
from igm_jax.evaluation.linear_probe import LinearHead
from igm_jax.evaluation.mamp import export_safetensors, mamp_tensors
from igm_jax.evaluation.run import load_run
from igm_jax.models import Encoder
from igm_jax.models.encoder import stretch_means
from igm_jax.skeleton import COORDINATES


@pytest.fixture(scope="module")
def run(finished):
    return load_run(finished.folder)


@pytest.fixture(scope="module")
def head(run):
    """A linear head with random weights and statistics."""
    rng, width = np.random.default_rng(3), run.config.model.encoder.feature_width
    kernel, bias, mean = (rng.normal(size=s) for s in ((width, 3), 3, width))
    arrays = (kernel, bias, mean, rng.uniform(0.5, 2, size=width))
    params = LinearHead(*(jnp.asarray(x, jnp.float32) for x in arrays))
    scale = kernel / np.sqrt(arrays[3] + 1e-6)[:, None]
    tensors = {"head.fc.weight": scale.T, "head.fc.bias": bias - mean @ scale}
    return Head(
        params,
        functools.partial(linear_logits, run.config.model.encoder),
        ("a", "b", "ü"),
        1.5,
        (6, 12, 19),
        "random head",
        {name: np.ascontiguousarray(x, np.float32) for name, x in tensors.items()},
    )


ALONE = """
import sys
import jax, jax.export, numpy as np
call = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read())).call
clips = np.load(sys.argv[2])
parts = call(clips[:2]), call(clips[2:])
np.savez(sys.argv[3], **{name: np.concatenate([x[name] for x in parts]) for name in parts[0]})
assert not [name for name in sys.modules if name.split(".")[0] in ("igm_jax", "flax")]
"""


def test_stablehlo_needs_jax_alone(unchecked_shapes, finished, run, head, tmp_path):
    """A process that cannot see this library reads clips of another batch and length.

    jaxtyping cannot compare shapes of unknown size, so it is switched off.
    """
    pytest.importorskip("flatbuffers")
    assert export_stablehlo(run, tmp_path / "encoder.stablehlo", head) < 1e-4
    clips = np.random.default_rng(1).normal(size=(5, 2, 13, 6, 3)).astype(np.float32)
    clips[1, 1], clips[2, 0] = 0, 0  # one person; one in the second place
    np.save(tmp_path / "clips.npy", clips)
    files = ("encoder.stablehlo", "clips.npy", "found.npz")
    # -P: the folder of the tests is not on the path.
    subprocess.run([sys.executable, "-P", "-c", ALONE, *files], cwd=tmp_path, check=True)
    encode, _ = igm_jax.load_encoder(finished.folder)
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_allclose(found["features"], encode(clips), atol=1e-5)
        tensors = head.tensors
        logits = np.asarray(encode(clips)) @ tensors["head.fc.weight"].T + tensors["head.fc.bias"]
        np.testing.assert_allclose(found["logits"], logits, atol=1e-4)
    facts = json.loads((tmp_path / "encoder.stablehlo.json").read_text(encoding="utf-8"))
    assert facts["head"]["class_names"] == ["a", "b", "ü"] and facts["head"]["temperature"] == 1.5


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_reading_inside_is_that_of_the_host(run, coordinates):
    """In every frame of reference, for short and long clips, before anything is lowered."""
    reading = dataclasses.replace(run.reading, coordinates=coordinates)
    other = dataclasses.replace(run, reading=reading)
    encode = jax.jit(functools.partial(export.outputs_of_raw, run=other))
    assert export.largest_difference(other, None, encode) < 1e-4


def test_a_wrong_export_is_not_written(run, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    tensors = mamp_tensors(run)
    tensors["blocks.0.attn.qkv.weight"] = tensors["blocks.0.attn.qkv.weight"][::-1].copy()
    monkeypatch.setattr(mamp, "mamp_tensors", lambda run: tensors)
    with pytest.raises(InputError, match="exported features differ by"):
        export_safetensors(run, tmp_path / "encoder.safetensors")
    assert not any(tmp_path.iterdir())


def test_a_wrong_head_is_not_written(run, head, tmp_path):
    pytest.importorskip("safetensors")
    wrong = head.tensors | {"head.fc.bias": head.tensors["head.fc.bias"] + 1}
    with pytest.raises(InputError, match="exported features differ by 1 "):
        export_safetensors(run, tmp_path / "x", dataclasses.replace(head, tensors=wrong))
    assert not any(tmp_path.iterdir())


def test_onnx_reads_any_batch_and_length(unchecked_shapes, run, head, tmp_path):
    """onnxruntime alone reads clips of another batch and length than those that were checked."""
    pytest.importorskip("jax2onnx")
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    path = tmp_path / "encoder.onnx"
    assert export_onnx(run, path, head) < 1e-4
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    clips = np.random.default_rng(1).normal(size=(5, 2, 13, 6, 3)).astype(np.float32)
    clips[1, 1], clips[2, 0] = 0, 0
    features, logits = session.run(["features", "logits"], {"clips": clips})
    expected = export.outputs_of_raw(jnp.asarray(clips), run=run, head=head)
    np.testing.assert_allclose(features, expected["features"], atol=1e-4)
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)
    (metadata,) = onnx.load(path).metadata_props
    assert json.loads(metadata.value)["head"]["class_names"] == ["a", "b", "ü"]


def test_an_export_is_in_float32(run):
    """A run of bfloat16 differs by rounding from its own float32."""
    encoder = dataclasses.replace(run.config.model.encoder, dtype="bfloat16")
    model = dataclasses.replace(run.config.model, encoder=encoder)
    half = dataclasses.replace(run, config=dataclasses.replace(run.config, model=model))
    assert export.in_float32(half) == run


def test_safetensors_has_the_names_of_mamp(run, tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "encoder.safetensors"
    assert export_safetensors(run, path) < 1e-4
    tensors = numpy.load_file(path)
    assert {name: x.shape for name, x in tensors.items() if not name.startswith("blocks")} == {
        "input_mean": (3,),
        "input_std": (3,),
        "joints_embed.proj.weight": (16, 3, 4, 1),
        "joints_embed.proj.bias": (16,),
        "temp_embed": (1, 2, 1, 16),
        "pos_embed": (1, 1, 6, 16),
        "norm.weight": (16,),
        "norm.bias": (16,),
    }
    assert {name.removeprefix("blocks.0.") for name in tensors if name.startswith("blocks")} == {
        f"{part}.{kind}"
        for part in ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
        for kind in ("weight", "bias")
    }
    assert tensors["blocks.0.attn.qkv.weight"].shape == (48, 16)
    header = path.read_bytes()
    size = int.from_bytes(header[:8], "little")
    facts = json.loads(json.loads(header[8 : 8 + size])["__metadata__"]["igm_jax"])
    assert facts["encoder"]["heads"] == 2 and facts["reading"]["layout"]["name"] == "tiny6"


@pytest.mark.parametrize(("gelu", "epsilon"), [("tanh", 1e-6), ("exact", 1e-3)])
def test_the_module_of_the_docs_reads_safetensors(run, tmp_path, gelu, epsilon):
    """Its code is taken from docs/using.md as it stands there."""
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    page = pathlib.Path(__file__).parents[2] / "docs" / "using.md"
    text = page.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(code, module := {})
    (code,) = re.findall(r"```\n(def pooled.*?)```", text, re.DOTALL)
    exec(code, module)
    path = tmp_path / "encoder.safetensors"
    sizes = {"gelu": gelu, "layer_norm_epsilon": epsilon, "stretches": 2}
    c = dataclasses.replace(run.config.model.encoder, **sizes)
    model = dataclasses.replace(run.config.model, encoder=c)
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, model=model))
    export_safetensors(run, path)
    module["sizes"] = export.facts(run)["encoder"]
    encoder = module["Encoder"](module["sizes"])
    encoder.load_state_dict(safetensors.load_file(path))
    clip = np.random.default_rng(2).normal(size=(3, 8, 6, 3)).astype(np.float32)
    with torch.no_grad():
        tokens = encoder(torch.from_numpy(clip))
        features = module["pooled"](tokens)
    expected = Encoder(c).apply({"params": run.params}, run.reading(jnp.asarray(clip)))
    np.testing.assert_allclose(tokens, expected, atol=1e-4)
    expected = stretch_means(expected, c.grid[0], 2)
    np.testing.assert_allclose(features, expected, atol=1e-4)


@pytest.mark.parametrize("module", ["safetensors", "safetensors.numpy"])
def test_a_missing_library_is_named(run, tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"safetensors is not installed.*igm_jax\[export\]"):
        export_safetensors(run, tmp_path / "x")
