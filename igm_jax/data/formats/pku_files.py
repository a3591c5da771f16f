"""Finds the skeleton, label and split files of PKU-MMD in any folder structure."""

import codecs
import collections
import dataclasses
import pathlib
import re

from igm_jax.errors import InputError

_PHASES = {"I": re.compile(r"\d{4}-[LMR]", re.ASCII), "II": re.compile(r"A\d\dN\d\d-[LMR]")}
_SPLIT_FILE = re.compile(r"(?:.*[-_ ])?cross[-_ ]?(subject|view)s?(?:[-_ ].*)?", re.IGNORECASE)
_CAMERAS = "LMR"
TRAIN_CAMERAS = (2, 3)  # M and R
_TRAIN, _TEST = 1, 2
_HEAD = 4096  # bytes that tell labels from skeletons
_NUMBERS = re.compile(rb"[\d\s,.+\-einfaEINFA]+")
_FEW = 10  # numbers in a line, which no skeleton has
_LABELS, _SKELETONS = "label", "skeleton"


@dataclasses.dataclass(frozen=True)
class Files:
    """Files of a phase, by the name of the video.

    Attributes:
      skeletons: where its skeletons are.
      labels: where its labels are.
      split: 1 if cross-subject trains on it, 2 if it tests on it.
    """

    skeletons: dict[str, pathlib.Path]
    labels: dict[str, pathlib.Path]
    split: dict[str, int]


def camera(video: str) -> int:
    """Number of the camera: 1 is left, 2 middle, 3 right."""
    return 1 + _CAMERAS.index(video[-1])


def find(folder: pathlib.Path, how_to_get: str) -> Files:
    """Finds the files of one phase in a folder, at any depth.

    Raises:
      InputError: no such folder, files of a kind that is missing or there twice, both phases, or a
        split file that is damaged or cuts the views otherwise than by M and R against L.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: {how_to_get}")
    videos: dict[str, dict[str, pathlib.Path]] = {_SKELETONS: {}, _LABELS: {}}
    splits: dict[str, list[pathlib.Path]] = {"subject": [], "view": []}
    paths = sorted(p for p in folder.rglob("*.txt") if p.is_file())
    for path, kind in _kinds([path for path in paths if _phase(path.stem)]).items():
        other = videos[kind].setdefault(path.stem, path)
        if other != path:
            raise InputError(f"{path}: {other} is a {kind} file of it too: remove one of them")
    for path in paths:
        if not _phase(path.stem) and (match := _SPLIT_FILE.fullmatch(path.stem)):
            splits[match[1].lower()].append(path)
    for kind, found in (*videos.items(), ("cross-subject split", splits["subject"])):
        if not found:
            raise InputError(f"{folder}: no {kind} file in it: {how_to_get}")
    if len(phases := set(filter(None, map(_phase, videos["skeleton"] | videos["label"])))) > 1:
        raise InputError(
            f"{folder}: holds phases {' and '.join(sorted(phases))}: give one's folder"
        )
    _check_views(splits["view"])
    return Files(videos["skeleton"], videos["label"], _read_splits(splits["subject"]))


def _phase(name: str) -> str | None:
    return next((phase for phase, names in _PHASES.items() if names.fullmatch(name)), None)


def _kinds(paths: list[pathlib.Path]) -> dict[pathlib.Path, str]:
    """Labels have commas, skeletons have none.

    A file that is empty or damaged is what most of the others in its folder are, or what the
    folder's name says if there are no others.
    """
    kinds = {path: _kind(path) for path in paths}
    others: dict[pathlib.Path, list[str]] = {path.parent: [] for path in paths}
    for path, kind in kinds.items():
        if kind is not None:
            others[path.parent].append(kind)
    return {
        path: kind or _kind_beside(path.parent, others[path.parent]) for path, kind in kinds.items()
    }


def _kind_beside(folder: pathlib.Path, others: list[str]) -> str:
    if others:
        return collections.Counter(others).most_common(1)[0][0]
    return _LABELS if "label" in folder.name.lower() else _SKELETONS


def _kind(path: pathlib.Path) -> str | None:
    """Kind of a file by its first line: a row of labels, a row of many numbers, or None."""
    with path.open("rb") as file:
        head = file.read(_HEAD).removeprefix(codecs.BOM_UTF8).strip()
    if not _NUMBERS.fullmatch(head):
        return None
    line = head.splitlines()[0]
    if line.count(b",") == 3:
        return _LABELS
    return _SKELETONS if b"," not in head and len(line.split()) > _FEW else None


def _read_splits(paths: list[pathlib.Path]) -> dict[str, int]:
    """Reads split files: video → _TRAIN or _TEST; the two phases share no names."""
    split: dict[str, int] = {}
    for path in paths:
        side = None
        for number, line in enumerate(
            path.read_text("utf-8-sig", errors="replace").splitlines(), 1
        ):
            where = f"{path}, line {number}"
            if "video" in line.lower():  # "Training videos:", "Validataion videos:"
                side = _TRAIN if "train" in line.lower() else _TEST
                continue
            for name in re.findall(r"[^,\s]+", line):
                name = name.removesuffix(".txt")
                if _phase(name) is None:
                    raise InputError(f"{where}: {name[:40]!r} is no name of a video: correct it")
                if side is None:
                    raise InputError(f"{where}: no line 'Training videos:' before it: add it")
                if split.setdefault(name, side) != side:
                    raise InputError(f"{where}: {name} is to train on and to test on: correct it")
    return split


def _check_views(paths: list[pathlib.Path]) -> None:
    for path in paths:
        for name, side in _read_splits([path]).items():
            if side != (_TRAIN if camera(name) in TRAIN_CAMERAS else _TEST):
                raise InputError(
                    f"{path}: {name} is on the other side of the protocol xview, which trains on "
                    "cameras M and R and tests on L: move the file away to go by the cameras"
                )
