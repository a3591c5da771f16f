"""Foreign weights become a run: the inverse of the export, and what a PyTorch module computes."""

import argparse
import dataclasses
import functools
import os
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igm_jax
from igm_jax.errors import InputError
from igm_jax.evaluation import judge, theory
from igm_jax.evaluation.export import facts
from igm_jax.evaluation.import_weights import ForeignData, Weights, import_run, read_weights
from igm_jax.evaluation.mamp import (
    encoder_config,
    encoder_params,
    export_safetensors,
    mamp_tensors,
    mamp_tokens,
)
from igm_jax.evaluation.run import load_run
from igm_jax.models import Encoder, EncoderConfig
from igm_jax.skeleton import in_reference_frame


@pytest.fixture(scope="module")
def run(finished):
    return load_run(finished.folder)


SIZES = EncoderConfig(
    frames=8, joints=6, patch_frames=2, patch_joints=3, width=16, depth=3, heads=4, mlp_width=24,
    gelu="exact", layer_norm_epsilon=1e-5,
)  # fmt: skip


def random_params(config):
    """Parameters of an encoder, of which none is zero or equal to another."""
    rng = np.random.default_rng(0)
    clip = jax.ShapeDtypeStruct((1, config.frames, config.joints, config.channels), jnp.float32)
    shapes = jax.eval_shape(Encoder(config).init, jax.random.key(0), clip)["params"]
    return jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), shapes)


def as_tensors(run, params, config):
    model = dataclasses.replace(run.config.model, encoder=config)
    other = dataclasses.replace(run.config, model=model)
    tensors = mamp_tensors(dataclasses.replace(run, config=other, params=params))
    return {name: x for name, x in tensors.items() if not name.startswith("input_")}


@pytest.mark.parametrize("joints", [1, 3, 6])
def test_inverse_of_the_export(run, joints):
    config = dataclasses.replace(SIZES, patch_joints=joints)
    params = random_params(config)
    tensors = as_tensors(run, params, config)
    assert encoder_config(tensors, heads=4) == config
    jax.tree.map(np.testing.assert_array_equal, encoder_params(tensors, config), params)


def test_a_file_of_ours_comes_back_as_the_run(run, finished, tmp_path):
    """Parameters, config, reading, and so the result of every evaluation."""
    pytest.importorskip("safetensors")
    export_safetensors(run, tmp_path / "encoder.safetensors")
    _, difference = import_run(read_weights(tmp_path / "encoder.safetensors"), tmp_path / "run")
    assert difference < 1e-4
    other = load_run(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, other.params, run.params)
    assert (other.config, other.reading, other.data) == (run.config, run.reading, run.data)
    knn = functools.partial(judge.evaluate, judge=judge.evaluate_knn, baselines=False)
    rows = [knn(dataclasses.replace(x, places=(str(finished.store.path),))) for x in (run, other)]
    for row in rows:
        row[0].pop("features")
    assert rows[0] == rows[1]
    with pytest.raises(InputError, match="holds a run already"):
        import_run(read_weights(tmp_path / "encoder.safetensors"), tmp_path / "run")
    with pytest.raises(InputError, match=r"has no generator/.*imported weights.*choose a run"):
        igm_jax.load_generator(tmp_path / "run")
    # The theory tells them from untrained networks, and asks for no generator.
    untrained, imported = theory.stages(other, 4)
    assert (untrained.name, imported.name) == ("untrained", "imported weights")
    assert imported.generator is None
    jax.tree.map(np.testing.assert_array_equal, imported.run.params, run.params)
    measured = theory.measure(imported, finished.store, clips=16)
    assert measured["graph"] is None and measured["name"] == "imported weights"


def test_a_checkpoint_of_mamp_computes_what_pytorch_does(finished, tmp_path):
    """The module of docs/using.md with PyTorch's GELU and ε, decoder and settings beside it."""
    torch = pytest.importorskip("torch")
    page = pathlib.Path(__file__).parents[2] / "docs" / "using.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(code, module := {})
    sizes = {**dataclasses.asdict(SIZES), "patch_joints": 1}
    torch.manual_seed(0)
    network = module["Encoder"](sizes)
    for x in network.parameters():
        torch.nn.init.normal_(x, std=0.3)
    state = {f"module.{n}": x for n, x in network.state_dict().items() if "input_" not in n}
    state |= {"module.decoder_embed.weight": torch.ones(3), "module.mask_token": torch.ones(1)}
    settings = argparse.Namespace(model_args={"num_heads": 4}, lr=1e-3)
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": state, "epoch": 3, "args": settings}, path)

    data = ForeignData(finished.store, "xsub")
    run, _ = import_run(read_weights(path), tmp_path / "runs" / "mamp", data=data)
    c = run.config.model.encoder
    assert (c.heads, c.depth, c.width, c.frames, c.joints) == (4, 3, 16, 8, 6)
    encode, info = igm_jax.load_encoder(run.folder)
    clips = np.stack([finished.store[i].frames[:1, :6] for i in range(5)])
    centred = in_reference_frame(
        clips, clips[:, :1, :1, 0], np.broadcast_to(np.eye(3, dtype=np.float32), (5, 1, 3, 3))
    )
    position = np.clip((np.arange(8) + 0.5) * 6 / 8 - 0.5, 0, 5)
    low = position.astype(int)
    high, weight = np.minimum(low + 1, 5), (position - low).reshape(-1, 1, 1)
    resized = centred[:, 0, low] * (1 - weight) + centred[:, 0, high] * weight
    with torch.no_grad():
        expected = network(torch.from_numpy(resized.astype(np.float32))).mean(1).numpy()
    np.testing.assert_allclose(encode(clips), expected, atol=1e-4)
    assert info["layout"] == finished.store.layout and run.config.data.protocol == "xsub"
    (row,) = judge.evaluate(load_run(run.folder), judge.evaluate_knn, baselines=False)
    assert 0 <= row["test_knn_1"] <= 100


def test_gelu_and_epsilon_are_those_of_the_config(run):
    """Against NumPy in float64; the other GELU, or the other ε, differs."""
    found = {}
    for gelu, epsilon in (("tanh", 1e-6), ("exact", 1e-6), ("exact", 1e-2)):
        config = dataclasses.replace(SIZES, gelu=gelu, layer_norm_epsilon=epsilon)
        params = random_params(config)
        clip = np.random.default_rng(1).normal(size=(2, 8, 6, 3)).astype(np.float32)
        standard = {"input_mean": np.zeros(3), "input_std": np.ones(3)}
        tensors = as_tensors(run, params, config) | standard
        ours = np.asarray(Encoder(config).apply({"params": params}, jnp.asarray(clip)))
        np.testing.assert_allclose(mamp_tokens(tensors, clip, config), ours, atol=1e-4)
        found[gelu, epsilon] = ours
    first, *others = found.values()
    assert all(np.abs(first - other).max() > 1e-4 for other in others)
    with pytest.raises(InputError, match="gelu='relu'"):
        dataclasses.replace(SIZES, gelu="relu")


class Harmful:
    """An object whose unpickling makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_no_pickle_code_runs(tmp_path):
    torch = pytest.importorskip("torch")
    path, mark = tmp_path / "x.pth", tmp_path / "mark"
    torch.save({"model": {"a": Harmful(str(mark))}}, path)
    with pytest.raises(InputError, match="holds other objects than tensors, which are not read"):
        read_weights(path)
    assert not mark.exists()
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"x\.pth is empty"):
        read_weights(path)
    path.write_bytes(b"1234")
    with pytest.raises(InputError, match=r"x\.pth is damaged, or holds other objects"):
        read_weights(path)
    torch.save([torch.ones(2)], path)
    with pytest.raises(InputError, match="holds no tensors by name"):
        read_weights(path)


def test_weights_that_do_not_fit_are_named(run, finished, tmp_path):
    params = random_params(SIZES)
    tensors = as_tensors(run, params, SIZES)
    data, out = ForeignData(finished.store, "xsub"), tmp_path / "run"

    def made(changes, data=data, heads=4):
        return import_run(Weights({**tensors, **changes}, {}, None), out, data=data, heads=heads)

    with pytest.raises(InputError, match=r"'blocks.1.mlp.fc2.bias' has shape \[3\], not \[16\]"):
        made({"blocks.1.mlp.fc2.bias": np.ones(3)})
    with pytest.raises(InputError, match=r"'blocks\.1\.gate\.weight', which .* lacks"):
        made({"blocks.1.gate.weight": np.ones(3)})
    with pytest.raises(InputError, match=r"give --heads \(MAMP has 8\)"):
        made({}, heads=None)
    with pytest.raises(InputError, match="give a store with --data"):
        made({}, data=None)
    with pytest.raises(InputError, match=r"reads 12 joints of 3 coordinates, and .* has 6"):
        made({"pos_embed": np.ones((1, 1, 4, 16))})
    missing = {name: x for name, x in tensors.items() if name != "norm.bias"}
    with pytest.raises(InputError, match=r"they have no 'norm\.bias'"):
        import_run(Weights(missing, {}, 4), out, data=data)
    with pytest.raises(InputError, match="does not say its 'config'"):
        import_run(Weights(tensors, {"reading": facts(run)["reading"]}, 4), out)
    assert not out.exists()
    unbiased = {name: x for name, x in tensors.items() if not name.endswith("qkv.bias")}
    imported, _ = import_run(Weights(unbiased, {}, 4), out, data=data)
    assert not np.any(imported.params["blocks"]["attention"]["qkv"]["bias"])


def test_files_that_are_refused(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    for name, told in (("a.pth", "no such file"), ("a.zip", r"give a \.pth")):
        if name != "a.pth":
            (tmp_path / name).touch()
        with pytest.raises(InputError, match=told):
            read_weights(tmp_path / name)
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"1234")
    with pytest.raises(InputError, match="is damaged, or no safetensors file"):
        read_weights(path)
    numpy.save_file({"conv1.weight": np.ones(3, np.float32)}, path)
    with pytest.raises(InputError, match=r"'conv1.weight' is no part of MAMP's network"):
        read_weights(path)
