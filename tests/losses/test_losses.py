"""All losses against slow references in float64: values, gradients, edge cases and messages."""

import chex
import jax
import jax.numpy as jnp
import loss_oracles as oracles
import numpy as np
import pytest
from jax.test_util import check_grads
from loss_oracles import REFERENCES, Z_HAT, Z, features, unit

from igm_jax import losses
from igm_jax.errors import InputError

# Compiled once a shape.
distribution_idempotency_loss = jax.jit(losses.distribution_idempotency_loss)

CASES = {
    "normalize": (losses.normalize, unit, (Z,)),
    "noise": (
        losses.noise_prediction_loss,
        oracles.noise_prediction,
        (features(3, 4, 3, 2), features(4, 4, 3, 2)),
    ),
    "feature": (
        losses.feature_idempotency_loss,
        oracles.feature_idempotency,
        (Z, Z_HAT),
    ),
    "similarity": (
        lambda z, r: losses.similarity_distribution(z, r, 0.1),
        lambda z, r: oracles.similarity(z, r, 0.1),
        (Z, REFERENCES),
    ),
    "distribution": (
        losses.distribution_idempotency_loss,
        oracles.distribution_idempotency,
        (Z, Z_HAT, REFERENCES),
    ),
    "spectral": (
        losses.spectral_contrastive_loss,
        oracles.spectral_contrastive,
        (Z, Z_HAT),
    ),
    "coding": (
        lambda z: losses.coding_length(z, 0.5),
        lambda z: oracles.coding_length(z, 0.5),
        (Z,),
    ),
    "coding, more rows than columns": (
        lambda z: losses.coding_length(z, 0.5),
        lambda z: oracles.coding_length(z, 0.5),
        (REFERENCES,),
    ),
    "rate reduction": (
        lambda z: losses.coding_rate_reduction(z, 0.5),
        lambda z: oracles.coding_rate_reduction(z, 0.5),
        (features(5, 6, 2, 7),),
    ),
    "series": (
        lambda z: losses.coding_length_series(z, 0.9, 4),
        lambda z: oracles.coding_length_terms(z, 0.9, 4),
        (Z,),
    ),
    "residual": (
        lambda z: losses.coding_length_residual(z, 0.9),
        lambda z: oracles.coding_length_residual(z, 0.9),
        (Z,),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_equals_oracle(name, transform):
    fn, oracle, arrays = CASES[name]
    np.testing.assert_allclose(
        transform(fn)(*map(jnp.asarray, arrays)), oracle(*arrays), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", [name for name in CASES if name != "distribution"])
def test_gradients_are_derivatives(name):
    fn, _, arrays = CASES[name]
    _assert_gradient(fn, *map(jnp.asarray, arrays))


def test_distribution_gradient_is_the_derivative_with_respect_to_z_hat():
    z, z_hat, references = map(jnp.asarray, (Z, Z_HAT, REFERENCES))
    _assert_gradient(lambda x: losses.distribution_idempotency_loss(z, x, references), z_hat)


def _assert_gradient(fn, *arrays):
    check_grads(jax.jit(fn), arrays, order=1, modes="rev", eps=1e-2, atol=2e-2, rtol=2e-2)


def test_distribution_target_and_references_are_constants():
    def loss(z, z_hat, references):
        return distribution_idempotency_loss(z, z_hat, references).sum()

    gradients = jax.jit(jax.grad(loss, (0, 1, 2)))
    dz, dz_hat, dreferences = gradients(*map(jnp.asarray, (Z, Z_HAT, REFERENCES)))
    assert not dz.any() and not dreferences.any()
    assert (jnp.abs(dz_hat).max(axis=-1) > 1e-3).all()


def test_distribution_is_a_divergence():
    """Zero where both distributions agree, positive elsewhere, finite where one underflows."""
    z, z_hat, references = map(jnp.asarray, (Z, Z_HAT, REFERENCES))
    same = distribution_idempotency_loss(z, 2 * z, references, target_temperature=0.1)
    np.testing.assert_allclose(same, 0, atol=1e-6)
    assert (distribution_idempotency_loss(z, z_hat, references) > 0.01).all()
    axes = jnp.concatenate([jnp.eye(2), -jnp.eye(2)])
    opposite = distribution_idempotency_loss(axes[:2], -axes[:2], axes, temperature=0.005)
    np.testing.assert_allclose(opposite, 400, rtol=1e-5)  # e⁻⁴⁰⁰ is zero in float32


@pytest.mark.parametrize("name", ["noise", "feature", "similarity", "distribution"])
def test_loss_i_depends_on_row_i_only(name):
    """The gradient of output i with respect to row j is zero unless i = j, where it is not."""
    fn, _, arrays = CASES[name]
    moving = 1 if name in ("feature", "distribution") else 0  # z_hat, or the only one there is
    jacobian = jax.jit(jax.jacrev(fn, argnums=moving))(*map(jnp.asarray, arrays))
    b, rest = len(arrays[moving]), arrays[moving][0].size
    # [B (outputs), references if any, B (rows), entries of a row]
    influence = jnp.abs(jacobian).reshape(b, -1, b, rest).sum(axis=(1, 3))
    np.testing.assert_array_equal(influence > 0, np.eye(b, dtype=bool))


ZERO_ROW = jnp.asarray(Z).at[2].set(0)


def test_zero_vectors_have_finite_values_and_gradients():
    other, references = jnp.asarray(Z_HAT), jnp.asarray(REFERENCES)

    @jax.jit
    @jax.jacrev
    def gradients(z):
        return {
            "z": losses.feature_idempotency_loss(z, other),
            "z_hat": losses.feature_idempotency_loss(other, z),
            "references": losses.similarity_distribution(other, z, 0.1),
            "distribution": losses.distribution_idempotency_loss(other, z, references),
            "coding": losses.coding_length(z, 0.5),
            "series": losses.coding_length_series(z, 0.5, 3),
            "residual": losses.coding_length_residual(z, 0.5),
        }

    for z in (ZERO_ROW, jnp.zeros_like(ZERO_ROW)):
        chex.assert_tree_all_finite(gradients(z))
    # … and they are not finite because they are all zero.
    assert all(jnp.any(g != 0) for g in gradients(ZERO_ROW).values())


def test_zero_vector_gives_cosine_zero():
    np.testing.assert_array_equal(losses.normalize(ZERO_ROW)[2], 0)
    assert losses.feature_idempotency_loss(ZERO_ROW, jnp.asarray(Z_HAT))[2] == 0


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_normalize_survives_any_scale(scale):
    """Squares of these over- or underflow; the direction must not."""
    np.testing.assert_allclose(losses.normalize(jnp.asarray(Z) * scale), unit(Z), rtol=1e-5)
    gradient = jax.grad(lambda z: losses.normalize(z)[:, 0].sum())(jnp.asarray(Z) * scale)
    assert jnp.isfinite(gradient).all() and (gradient != 0).any()


def test_normalize_does_not_hide_nan():
    assert jnp.isnan(losses.normalize(jnp.array([[jnp.nan, 0.0]]))).all()


def test_half_precision_is_computed_in_float32():
    z, z_hat = jnp.asarray(Z, jnp.bfloat16), jnp.asarray(Z_HAT, jnp.bfloat16)
    value = losses.feature_idempotency_loss(z, z_hat)
    assert value.dtype == jnp.float32
    wanted = oracles.feature_idempotency(z.astype(jnp.float32), z_hat.astype(jnp.float32))
    np.testing.assert_allclose(value, wanted, atol=1e-6)
    assert losses.noise_prediction_loss(z, z_hat).dtype == jnp.float32
    assert losses.coding_length(z, 0.5).dtype == jnp.float32


def test_matrix_products_have_full_precision():
    """On a GPU the default is TF32, with an error of 1e-3 in a cosine: not in these functions."""
    z = jnp.asarray(Z)
    with jax.default_matmul_precision("bfloat16"):
        program = jax.make_jaxpr(
            lambda z: (
                losses.distribution_idempotency_loss(z, z, z),
                losses.spectral_contrastive_loss(z, z),
                losses.coding_length(z, 0.5),
            )
        )(z)
    assert str(program).count("HIGHEST") and not str(program).count("DEFAULT")


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda z: losses.noise_prediction_loss(z, z[:1]), r"noise \(1, 7\)"),
        (lambda z: losses.feature_idempotency_loss(z, z[:1]), r"z_hat \(1, 7\)"),
        (lambda z: losses.distribution_idempotency_loss(z, z[:1], z), r"z_hat \(1, 7\)"),
        (lambda z: losses.spectral_contrastive_loss(z, z[:1]), r"z_hat \(1, 7\)"),
        (lambda z: losses.spectral_contrastive_loss(z[:1], z[:1]), "batch of 1"),
        (lambda z: losses.similarity_distribution(z, z, 0.0), "temperature=0.0"),
        (
            lambda z: losses.distribution_idempotency_loss(z, z, z, target_temperature=-1.0),
            "target_temperature=-1.0",
        ),
        (lambda z: losses.mined_similarity_loss(z, z, z, positives=99), "positives=99: must be"),
        (lambda z: losses.mined_similarity_loss(z, z, z, positives=0), "positives=0: must be"),
        (
            lambda z: losses.mutual_distillation_loss(z[None], z[None], z[None], nearest=99),
            "nearest=99: must be",
        ),
        (lambda z: losses.coding_length(z, 0.0), "distortion=0.0"),
        (lambda z: losses.coding_length_series(z, 1.0, 0), "order=0"),
    ],
)
def test_bad_input_is_refused_in_one_line(unchecked_shapes, call, message):
    with pytest.raises(InputError, match=message) as error:
        call(jnp.asarray(Z))
    assert "\n" not in str(error.value)
