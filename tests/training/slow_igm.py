"""The objective of IGM in float64, clip by clip, from its formulas (`SlowObjective`).

Only the networks themselves are the library's, and the random keys, which are split as it does.
"""

import jax
import jax.numpy as jnp
import numpy as np

from igm_jax.models import AuxTokens, Condition

STEPS = 1000  # K
TOKENS = 12  # of a row: two in time, six joints


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def mdff(tokens, eta):
    out = np.zeros_like(tokens)
    for row, z in enumerate(tokens):
        weight = np.exp(unit(z) @ unit(z).T)
        low = weight / weight.sum(axis=1, keepdims=True) @ z
        out[row] = (1 + eta) * z - eta * low
    return out


def coding_length(z, distortion):
    m, d = z.shape
    _, logdet = np.linalg.slogdet(np.eye(d) + d / (m * distortion**2) * z.T @ z)
    return (m + d) / 2 * logdet


def draws(w, key, steps=STEPS):
    """t, and which clips keep their condition."""
    k_t, _, k_drop = jax.random.split(key, 3)
    t = np.asarray(jax.random.randint(k_t, (len(w.present),), 0, steps))
    dropped = jax.random.bernoulli(k_drop, w.config.objective.condition_drop, (len(w.present),))
    return t, ~np.asarray(dropped)


def order_of(key, rows):
    return np.argsort(np.asarray(jax.random.uniform(key, (rows, TOKENS))), axis=1)


class SlowObjective:
    """The values of the metrics, the pooled features and the targets of one batch of a world."""

    def __init__(self, w, key):
        self.w, self.o = w, w.config.objective
        self.share = np.asarray(w.alpha_bar, np.float64)
        self.present = np.asarray(w.present)
        self.count, self.bodies = self.present.shape
        self.rows = self.present.size
        self.keys = dict(
            zip(("order", "input", "generate", "reencode", "own"), jax.random.split(key, 5))
        )
        self.clip = np.asarray(w.clip, np.float64).reshape(self.rows, 8, 6, 3)

    def network(self, method, params, *inputs):
        inputs = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.float32 if x.dtype == np.float64 else None), inputs
        )
        return np.asarray(self.w.apply({"params": params}, *inputs, method=method), np.float64)

    def pool(self, tokens):
        z = np.zeros((self.count, tokens.shape[-1]))
        for i in range(self.count):
            there = [m for m in range(self.bodies) if self.present[i, m]]
            z[i] = np.mean([tokens[i * self.bodies + m].mean(0) for m in there], 0)
        return z

    def project(self, params, z):
        return self.network("project", params, z) if self.w.config.model.projector_width else z

    def read(self):
        """Order of the tokens, tokens and pooled feature of the first view, and its target."""
        w, o = self.w, self.o
        order = order_of(self.keys["order"], self.rows)
        visible = order[:, : round(TOKENS * (1 - o.mask_ratio))]
        view = w.clip if w.other is None else w.other
        view = np.asarray(view, np.float64).reshape(self.clip.shape)
        noise = np.asarray(jax.random.normal(self.keys["input"], view.shape))
        noisy = view + o.input_noise * noise
        tokens = self.network("encode", w.params, noisy, visible)
        z = self.pool(tokens)
        target = self.project(w.params, z)
        if w.teacher:
            of_teacher = self.pool(self.network("encode", w.teacher, noisy, visible))
            target = self.project(w.teacher, of_teacher)
        return order, tokens, z, target

    def generate(self, key, steps, order, adapted):
        """t, which clips are conditioned, the error of the noise, and x̂0."""
        t, conditioned = draws(self.w, key, steps)
        shape = self.clip.shape
        noise = np.asarray(jax.random.normal(jax.random.split(key, 3)[1], shape), np.float64)
        row_t = np.repeat(t, self.bodies)
        a = self.share[row_t][:, None, None, None]
        x_t = np.sqrt(a) * self.clip + np.sqrt(1 - a) * noise
        condition = Condition(adapted.mean(1), adapted, order)
        dropped = np.repeat(~conditioned, self.bodies)
        signal = self.share[row_t]
        predicted = self.network("generate", self.w.params, x_t, condition, row_t, signal, dropped)
        clean = (x_t - np.sqrt(1 - a) * predicted) / np.sqrt(a)
        limit = self.o.clean_clip
        wrong = predicted - noise
        if self.o.generation_loss == "velocity":  # v = √ᾱ ε − √(1−ᾱ) x, whose x̂ is not clipped
            wrong = np.sqrt(a) * wrong - np.sqrt(1 - a) * (clean - self.clip)
        return t, conditioned, wrong, np.clip(clean, -limit, limit)

    def reencode(self, clean, z, t):
        """The feature of the generated clips, and the noisy feature in the auxiliary tokens."""
        o = self.o
        k_keep, k_t, k_feature = jax.random.split(self.keys["reencode"], 3)
        most = round(STEPS * o.max_feature_t_share)
        feature_t = np.asarray(jax.random.randint(k_t, (self.count,), 0, most))
        s = self.share[feature_t][:, None]
        noise = np.asarray(jax.random.normal(k_feature, z.shape))
        noisy = np.sqrt(s) * unit(z) + np.sqrt(1 - s) * noise
        aux = AuxTokens(*(np.repeat(x, self.bodies, axis=0) for x in (noisy, feature_t, t)))
        keep = order_of(k_keep, self.rows)[:, : round(TOKENS * (1 - o.reencode_mask_ratio))]
        return self.pool(self.network("encode", self.w.params, clean, keep, aux)), noisy

    def similarity(self, target, p, valid):
        """Mean KL divergence of the similarities to the queue."""
        queue, kl = np.asarray(self.w.queue, np.float64), []
        for i in valid:
            first = np.exp(unit(target)[i] @ queue.T / 0.05)
            second = np.exp(unit(p)[i] @ queue.T / 0.1)
            first, second = first / first.sum(), second / second.sum()
            kl.append((first * np.log(first / second)).sum())
        return np.mean(kl)

    def entropy(self, own):
        if self.o.entropy == "coding_length":
            return -coding_length(unit(own), self.o.distortion) / self.count
        gram = unit(own) @ unit(own).T
        return (gram[~np.eye(self.count, dtype=bool)] ** 2).mean()

    def __call__(self, ramp):
        o, w = self.o, self.w
        order, tokens, z, target = self.read()
        adapted = mdff(tokens, 0.1)
        t, conditioned, wrong, clean = self.generate(self.keys["generate"], STEPS, order, adapted)
        there = np.flatnonzero(self.present.reshape(-1))
        values = {"loss_gen": np.mean([(wrong[r] ** 2).mean() for r in there])}
        if o.own_t:
            most = round(STEPS * o.max_t_share)
            t, conditioned, _, clean = self.generate(self.keys["own"], most, order, adapted)
        z_hat, noisy = self.reencode(clean, z, t)
        p, own = self.project(w.params, z_hat), self.project(w.params, z)
        in_time = t <= o.max_t_share * STEPS
        valid = [i for i in range(self.count) if conditioned[i] and in_time[i]]
        values["loss_feat"] = -np.mean([unit(target)[i] @ unit(p)[i] for i in valid])
        values["cos_generated"] = np.mean([unit(z)[i] @ unit(z_hat)[i] for i in valid])
        values["cos_aux"] = np.mean((unit(z) * unit(noisy)).sum(-1))
        values["loss_dist"] = self.similarity(target, p, valid)
        values["loss_entropy"] = self.entropy(own)
        values["loss"] = values["loss_gen"] + ramp * (
            0.7 * values["loss_feat"] + 1.3 * values["loss_dist"] + 0.2 * values["loss_entropy"]
        )
        return values, z, unit(target)
