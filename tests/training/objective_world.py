"""One objective with random parameters and clips, and slow helpers, for the tests of objectives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from igm_jax import losses
from igm_jax.augment import Mixture
from igm_jax.training.objectives import OBJECTIVES, ClipBatch, build_model

KEY = jax.random.key(4)
PRESENT = jnp.array([[True, True], [True, False], [False, True], [True, True]])
BASELINES = [name for name in OBJECTIVES if name != "igm"]
CHANGES = {
    "objective.mask_ratio": 0.5,
    "objective.ema_decay": 0.5,
    "objective.input_noise": 0.1,
    "objective.temperature": 0.2,
    "objective.spectral_mu": 3.0,
    "objective.mined_positives": 3,
    "objective.magnitude_step": 0.4,
}


def changes_for(name):
    return {**CHANGES, **tiny.changes_for(name)}


class World:
    """One baseline with random parameters and clips."""

    def __init__(self, name, changes=None):
        self.config = tiny.config({**changes_for(name), **(changes or {})})
        self.model = build_model(name, self.config.model)
        self.params, self.teacher = (tiny.random_params(self.model, seed) for seed in (0, 1))
        rng = np.random.default_rng(2)
        draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
        encoder = self.config.model.encoder
        shape = 4, 2, 8, 6, encoder.channels
        self.clip, self.other = draw(*shape), draw(*shape)
        self.queue = losses.normalize(draw(16, 16 * encoder.towers))
        self.ramp = jnp.float32(0)
        self.extreme, self.mixed = draw(*shape), draw(*shape)
        self.partner = jnp.array([2, 3, 0, 1])
        both = PRESENT & PRESENT[self.partner]
        self.pasted = jnp.asarray(rng.random((4, 2, 8, 6)) < 0.4) & both[:, :, None, None]
        self.parts = jnp.asarray(tiny.LAYOUT.body_parts)
        self._objective = jax.jit(
            functools.partial(OBJECTIVES[name].loss, model=self.model, config=self.config.objective)
        )
        self.apply = jax.jit(self.model.apply, static_argnames="method")

    def run(self, **changes):
        """(loss, output) with some inputs replaced."""
        given = {k: getattr(self, k) for k in ("params", "teacher", "queue", "ramp")}
        given |= {k: getattr(self, k) for k in ("clip", "other", "extreme", "mixed")} | changes
        batch = ClipBatch(
            given["clip"],
            PRESENT,
            given["other"],
            extreme=given["extreme"],
            mixed=Mixture(given["mixed"], self.partner, self.pasted),
            parts=self.parts,
        )
        state = given["params"], given["teacher"], given["queue"]
        return self._objective(*state, batch, KEY, ramp=given["ramp"])

    def gradient(self, name, of=lambda loss, output: loss, **changes):
        return jax.grad(lambda x: of(*self.run(**{**changes, name: x})))(getattr(self, name))

    def tokens(self, params, rows, keep=None):
        tokens = self.apply({"params": params}, rows, keep, method="encode")
        return np.asarray(tokens, np.float64)

    def read(self, params, clip, key):
        """Pooled and unit features of a noisy view, half of whose tokens f sees."""
        k_keep, k_noise = jax.random.split(key)
        keep = np.argsort(np.asarray(jax.random.uniform(k_keep, (8, 12))), axis=1)[:, :6]
        rows = rows_of(clip)
        z = pool(self.tokens(params, rows + noise_of(k_noise, rows.shape[-1]), keep))
        return z, unit(z)


@functools.cache
def world(name):
    return World(name)


def rows_of(clip):
    return np.asarray(clip).reshape(8, 8, 6, -1)


def pool(tokens):
    """Mean over tokens, then over the present bodies, clip by clip."""
    per_row = tokens.mean(axis=1).reshape(4, 2, -1)
    return np.stack([z[p].mean(axis=0) for z, p in zip(per_row, np.asarray(PRESENT))])


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def noise_of(key, channels=3):
    return 0.1 * np.asarray(jax.random.normal(key, (8, 8, 6, channels)))


def patch(x):
    """[8, 8, 6, 3] → [8, 12, 12]: two spans of four frames, six joints each."""
    return np.stack(
        [x[:, 4 * i : 4 * i + 4, j].reshape(8, 12) for i in (0, 1) for j in range(6)], 1
    )
