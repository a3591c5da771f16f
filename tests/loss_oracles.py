"""Slow references of the losses in float64, one scalar at a time, and features to try them on."""

import numpy as np


def features(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def unit(z):
    z = np.asarray(z, np.float64)
    return np.array([row / np.sqrt((row**2).sum()) if row.any() else row for row in z])


def noise_prediction(predicted, noise):
    return [((p - n) ** 2).mean() for p, n in zip(np.float64(predicted), np.float64(noise))]


def feature_idempotency(z, z_hat):
    return [-sum(a * b) for a, b in zip(unit(z), unit(z_hat))]


def similarity(z, references, temperature):
    rows = []
    for a in unit(z):
        weights = [np.exp(sum(a * b) / temperature) for b in unit(references)]
        rows.append(np.array(weights) / sum(weights))
    return np.array(rows)


def distribution_idempotency(z, z_hat, references):
    p, q = similarity(z, references, 0.05), similarity(z_hat, references, 0.1)
    return [sum(a * np.log(a / b) for a, b in zip(*rows)) for rows in zip(p, q)]


def spectral_contrastive(z, z_hat):
    z, z_hat, b = np.float64(z), np.float64(z_hat), len(z)
    positive = np.mean([z[i] @ z_hat[i] for i in range(b)])
    negative = np.mean([(z[i] @ z_hat[j]) ** 2 for i in range(b) for j in range(b) if i != j])
    return -2 * positive + negative


def coding_length(z, distortion):
    z = np.float64(z)
    b, d = z.shape
    return (b + d) / 2 * np.linalg.slogdet(np.eye(d) + d / (b * distortion**2) * z.T @ z)[1]


def coding_rate_reduction(z, distortion):
    """As MCR² writes it: one log det of all vectors, and one of each group with its share."""
    z = np.float64(z)
    d, count = z.shape[-1], z.shape[0] * z.shape[1]

    def log_det(vectors):
        gram = sum(np.outer(v, v) for v in vectors)
        return np.linalg.slogdet(np.eye(d) + d / (len(vectors) * distortion**2) * gram)[1]

    groups = sum(len(group) / (2 * count) * log_det(group) for group in z)
    return log_det(z.reshape(-1, d)) / 2 - groups


def coding_length_terms(z, distortion, order):
    z = np.float64(z)
    b, d = z.shape
    gram = d / (b * distortion**2) * z.T @ z
    power, terms = np.eye(d), []
    for n in range(1, order + 1):
        power = power @ gram
        terms.append((b + d) / 2 * (-1) ** (n - 1) / n * np.trace(power))
    return np.array(terms)


def coding_length_residual(z, distortion):
    return coding_length_terms(z, distortion, 2).sum() - coding_length(z, distortion)


Z, Z_HAT, REFERENCES = features(0, 5, 7), features(1, 5, 7), features(2, 9, 7)
