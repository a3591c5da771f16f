"""Config keys of the data: clips, coordinates, augmentation. `config_groups` explains the marks."""

import dataclasses

from igm_jax import skeleton
from igm_jax.data.sessions import BATCHES
from igm_jax.errors import InputError
from igm_jax.training.config_checks import check_at_least, check_choice


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How clips are cropped and augmented, as far as it depends on the camera.

    Attributes:
      crop: see `DataConfig`.
      mirror: see `DataConfig`.
      rotation: see `DataConfig`.
    """

    crop: tuple[float, float]
    mirror: float
    rotation: tuple[float, float, float]


# Values of data.camera. docs/experiments.md, 14 and 17, has the evidence for both.
CAMERAS = {
    # One camera, which people face alike: the side of the body and the direction have a meaning.
    "fixed": Augmentation(crop=(0.7, 1.0), mirror=0.0, rotation=(0.3, 0.3, 0.3)),
    # Many cameras, or people who face all ways, and either hand may act.
    "moving": Augmentation(crop=(0.5, 1.0), mirror=0.5, rotation=(0.3, 1.2, 0.3)),
}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which clips are read, and how they are cropped and augmented.

    `crop`, `mirror` and `rotation` follow from `camera`, except those that are set. All that reads
    clips uses the property `augmentation`.

    Attributes:
      dataset: name of the data set in `protocols` and in experiments/prepare_data.py.
      path: folder of the skeleton store.
      protocol: separates training from test clips: xsub, xview, xset or split.
      pretrain_split: "train", or "fit" to leave the validation clips out.
      leave_out: names of classes whose clips are left out of pre-training and of its KNN, for the
        protocol of unseen classes [ours].
      coordinates: frame of reference: camera, centred, body (axes of the body in the first frame),
        or posture (body, without the path that the person walks; in 2-D without its size) [ours].
      streams: of joint, bone and motion: the channels that f reads and g generates [ours].
      bodies: M, bodies of a clip that are read; 0 = those of the store. Absent ones count nowhere.
      camera: fixed, if every clip is seen from the same side and left and right have a meaning;
        moving, if there are many views. It decides crop, mirror and rotation, see `CAMERAS` [ours].
      crop: share of the valid frames that a crop keeps, drawn uniformly [MAMP]. None: by camera.
      min_crop_frames: least length of a crop, where the clip is as long [MAMP].
      crops: 2 gives the objective a second crop of each clip, augmented by itself [ours].
      batches: "mixed", or "session" for batches of few sessions (clips of one subject, camera and
        setup), so that person and place tell no clips apart. Ids are read, not labels [ours].
      mirror: share of the clips that are mirrored, left and right exchanged [ours]. None: by
        camera.
      shear: limit of the random shear of each clip [ours; AimCLR 0.5].
      rotation: limits in radians of the rotation about x, y (up) and z [ours; MAMP 0.3]. None: by
        camera.
    """

    dataset: str = "synthetic"
    path: str = "data/synthetic"
    protocol: str = "xsub"
    pretrain_split: str = "train"
    leave_out: tuple[str, ...] = ()
    coordinates: str = "posture"
    streams: tuple[str, ...] = ("joint", "motion")
    bodies: int = 1
    camera: str = "moving"
    crop: tuple[float, float] | None = None
    min_crop_frames: int = 64
    crops: int = 2
    batches: str = "mixed"
    mirror: float | None = None
    shear: float = 0.0
    rotation: tuple[float, float, float] | None = None

    def __post_init__(self):
        check_choice("data.coordinates", self.coordinates, skeleton.COORDINATES)
        check_choice("data.batches", self.batches, BATCHES)
        check_choice("data.camera", self.camera, tuple(CAMERAS))
        for stream in self.streams:
            check_choice("data.streams", stream, skeleton.STREAMS)
        if not self.streams or len(set(self.streams)) < len(self.streams):
            raise InputError(f"data.streams={self.streams}: name one stream or more, each once")
        check_at_least("data", self, 0, "bodies")
        check_at_least("data", self, 1, "min_crop_frames")
        crop, mirror = self.augmentation.crop, self.augmentation.mirror
        if self.crops not in (1, 2) or not 0 <= mirror <= 1 or self.shear < 0:
            raise InputError(
                f"data.crops={self.crops} must be 1 or 2, data.mirror={mirror} in [0, 1] and "
                f"data.shear={self.shear} at least 0"
            )
        if min(self.augmentation.rotation) < 0:
            raise InputError(
                f"data.rotation={self.augmentation.rotation}: largest angles must be at least 0"
            )
        check_choice("data.pretrain_split", self.pretrain_split, ("train", "fit"))
        if not 0 < crop[0] <= crop[1] <= 1:
            raise InputError(f"data.crop={crop}: needs 0 < low <= high <= 1")

    @property
    def augmentation(self) -> Augmentation:
        """The preset of `camera`, and over it the keys that are set."""
        stated = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(Augmentation)
        }
        chosen = {name: value for name, value in stated.items() if value is not None}
        return dataclasses.replace(CAMERAS[self.camera], **chosen)

    def spelled_out(self) -> "DataConfig":
        """The same clips, with every key of `augmentation` set."""
        return dataclasses.replace(self, **dataclasses.asdict(self.augmentation))
