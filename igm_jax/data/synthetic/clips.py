"""Generates the synthetic data set: simulated people, seen by three cameras.

Twenty-four actions in the manner of NTU RGB+D, performed by sixteen people and filmed by three
cameras, in metres in camera space, y up, 30 frames a second. The actions differ in how the body
moves. Other properties vary freely, and a good representation ignores them: view, proportions,
place, handedness, posture, tempo, pauses, habits, movements of other limbs, and the noise of
a depth sensor. Everything follows from the seed, and a clip from the seed and its own index,
whatever is generated before it.

Protocols: xsub trains on odd performers and tests on even ones (a pair in a two-person action never
crosses that line); xview trains on cameras 2 and 3 and tests on camera 1.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from igm_jax.data.raw import RawData
from igm_jax.data.store import Clip
from igm_jax.data.synthetic.actions import ACTIONS
from igm_jax.data.synthetic.performance import Subject, draw_subject, perform_one_of, wander
from igm_jax.errors import InputError
from igm_jax.skeleton import NTU25

DATASET = "synthetic"
LAYOUT = NTU25
CLASS_NAMES = tuple(ACTIONS)
HOW_TO_GET = "make it: python experiments/prepare_data.py --dataset=synthetic"
NUM_SUBJECTS = 16
CAMERAS = (1, 2, 3)

_CAMERA_YAW = {1: 45.0, 2: 0.0, 3: -45.0}  # degrees around the scene, as in NTU RGB+D
_NUM_SETUPS = 4
# Noise of the sensor is worse where limbs end.
_JITTER = np.ones(LAYOUT.num_joints)
_JITTER[[7, 11, 15, 19, 21, 22, 23, 24]] = 1.6
_JITTER[[0, 1, 2, 20]] = 0.6
_LOSABLE = (5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19, 21, 22, 23, 24)


@dataclasses.dataclass(frozen=True)
class Take:
    """The i-th clip: cameras of a performance vary first, then classes, then people."""

    index: int

    @property
    def camera(self) -> int:
        """Number of the camera: 1, 2 or 3."""
        return CAMERAS[self.index % len(CAMERAS)]

    @property
    def performance(self) -> int:
        """Number of the performance, shared by its takes."""
        return self.index // len(CAMERAS)

    @property
    def label(self) -> int:
        """0-based index into `CLASS_NAMES`."""
        return self.performance % len(CLASS_NAMES)

    @property
    def subject(self) -> int:
        """Number of the subject, from 1. Neighbouring classes have neighbouring subjects."""
        return 1 + (self.performance // len(CLASS_NAMES) + self.label) % NUM_SUBJECTS

    @property
    def replication(self) -> int:
        """Count of this subject's performances of this class, from 1."""
        return 1 + self.performance // (len(CLASS_NAMES) * NUM_SUBJECTS)

    @property
    def setup(self) -> int:
        """Number of the camera setup, from 1."""
        return 1 + ((self.subject - 1) // 2 + self.replication - 1) % _NUM_SETUPS

    @property
    def name(self) -> str:
        """Name of the clip, as in NTU RGB+D."""
        numbers = (self.setup, self.camera, self.subject, self.replication, self.label + 1)
        return "".join(f"{letter}{n:03d}" for letter, n in zip("SCPRA", numbers, strict=True))


def generate(num_clips: int = 5000, seed: int = 0) -> RawData:
    """Yields clips `0 … num_clips − 1` of the endless data set of `seed`.

    Every 1,152 clips (24 classes × 16 subjects × 3 cameras) hold each combination once.

    Args:
      num_clips: how many; fewer clips are the beginning of more.
      seed: any integer from 0 on.

    Raises:
      InputError: `num_clips` or `seed` is out of range.
    """
    if num_clips < 1:
        raise InputError(f"num_clips is {num_clips}: ask for 1 clip or more")
    if seed < 0:
        raise InputError(f"seed is {seed}: choose 0 or more")
    takes = [range(i, min(i + len(CAMERAS), num_clips)) for i in range(0, num_clips, len(CAMERAS))]
    read_part = functools.partial(_generate, seed)
    return RawData(takes, read_part, DATASET, LAYOUT, CLASS_NAMES)


def _generate(seed: int, indices: Sequence[int]) -> Iterator[Clip]:
    """The takes of one performance."""
    takes = [Take(i) for i in indices]
    world = perform(takes[0], seed)
    for take in takes:
        frames = _sense(film(world, take, seed), _rng(seed, "sensor", take.index))
        yield Clip(
            name=take.name,
            frames=frames.astype(np.float32),
            label=take.label,
            subject=take.subject,
            camera=take.camera,
            setup=take.setup,
        )


def _rng(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """A separate random generator for each purpose and index."""
    purposes = ("subject", "style", "performance", "setup", "sensor")
    return np.random.default_rng((seed, purposes.index(purpose), *indices))


@functools.lru_cache(maxsize=4 * NUM_SUBJECTS)
def _subject(seed: int, number: int) -> Subject:
    return draw_subject(number, _rng(seed, "subject", number))


def perform(take: Take, seed: int) -> Float[np.ndarray, "M T 25 3"]:
    """The performance of `take` in metres, before camera and sensor.

    The origin is on the floor in the middle of the scene; camera 2 looks along +z.
    """
    rng = _rng(seed, "performance", take.performance)
    # An even number away from the actor: on the same side of the cross-subject protocol.
    away = 2 * rng.integers(1, NUM_SUBJECTS // 2)
    world = perform_one_of(
        ACTIONS[CLASS_NAMES[take.label]],
        actor=_subject(seed, take.subject),
        partner=_subject(seed, int(1 + (take.subject - 1 + away) % NUM_SUBJECTS)),
        style=_rng(seed, "style", take.subject, take.label),
        rng=rng,
    )
    # Place and heading are random.
    centre = world[:, :, 0].mean((0, 1)) * (1, 0, 1)
    spot = np.array([rng.uniform(-0.4, 0.4), 0.0, rng.uniform(-0.4, 0.4)])
    return (world - centre) @ _yaw(rng.uniform(-30.0, 30.0)).T + spot


def _yaw(degrees: float) -> Float[np.ndarray, "3 3"]:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def film(
    world: Float[np.ndarray, "M T V 3"], take: Take, seed: int
) -> Float[np.ndarray, "M T V 3"]:
    """The performance in the space of the camera of `take`: a rigid transform, no noise yet."""
    rng = _rng(seed, "setup", take.setup, take.camera)
    yaw = _CAMERA_YAW[take.camera] + rng.uniform(-4.0, 4.0)
    camera = np.array([rng.uniform(-0.15, 0.15), rng.uniform(0.8, 1.4), -rng.uniform(2.7, 3.6)])
    return world @ _yaw(yaw).T - camera


def _sense(clip: Float[np.ndarray, "M T V 3"], rng) -> Float[np.ndarray, "M T V 3"]:
    """Adds the noise of a depth sensor: jitter of a centimetre, and joints lost for a while."""
    clip = clip.copy()
    num_frames, num_joints = clip.shape[1:3]
    for body in clip:
        drift = wander(num_frames, 3 * num_joints, 6, rng).reshape(body.shape)
        shake = rng.normal(size=body.shape)
        body += _JITTER[:, None] * (0.008 * drift + 0.005 * shake)
        for _ in range(rng.poisson(num_frames / 60)):
            joint, start = rng.choice(_LOSABLE), rng.integers(1, num_frames)
            lost = slice(start, start + rng.integers(3, 12))
            if rng.random() < 0.5:
                body[lost, joint] = body[start - 1, joint]
            else:
                body[lost, joint] += rng.normal(0.0, 0.1, size=3)
    return clip
