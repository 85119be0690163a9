"""A sample: an initial scene, the changes made to it, and the view of the final picture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TypeAlias

from star_r1.tvr.change import Change
from star_r1.tvr.change import replay as _replay
from star_r1.tvr.scene import STANDARD_RIG, Object, Rig, Scene
from star_r1.tvr.vocabulary import VIEWS, Vocabulary


@dataclass(frozen=True, slots=True)
class Sample:
    """One question of TVR.

    Attributes:
        id: unique in its dataset, such as ``000012-left``.
        initial: the scene of the initial picture (always seen from ``center``).
        changes: the truth, in the order in which they were made, at least one in generated data.
            Without moves no two are of one (object, attribute) and the order carries no meaning.
        view: the camera of the final picture.
        rig: cameras and lamps, the same before and after.
    """

    id: str
    initial: Scene
    changes: tuple[Change, ...]
    view: str = "center"
    rig: Rig = STANDARD_RIG

    def __post_init__(self) -> None:
        if self.view not in (known := self.rig.cameras or VIEWS):
            raise ValueError(f"view {self.view!r} is not one of {', '.join(known)}")

    @property
    def vocabulary(self) -> Vocabulary:
        """What objects may look like, and which of their attributes may change."""
        return self.initial.vocabulary

    @property
    def final(self) -> Scene:
        """The scene of the final picture."""
        return _replay(self.initial, self.changes)

    @property
    def scene_key(self) -> int:
        """What all views of a scene share: 64 bits of a hash of its objects and changes.

        Rows of one key are right or wrong together, more or less: ``star_r1.intervals``.

        >>> objects = [Object(i, "red", "cube", "small", "metal", (0, 4 * i)) for i in range(10)]
        >>> sample = Sample("000000-center", Scene(tuple(objects)), ())
        >>> sample.scene_key == sample.seen_from("left").scene_key
        True
        """
        return _scene_key(self.initial.objects, self.changes)

    def seen_from(self, view: str) -> "Sample":
        """The same scene and changes with the final picture from ``view``; the id says so."""
        return replace(self, id=f"{self.id.rsplit('-', 1)[0]}-{view}", view=view)


_Key: TypeAlias = tuple[Sequence[Object], Sequence[Change], int]
_last: _Key = ((), (), 0)
"""Of the scene seen last: its views, which share its objects and changes, follow each other."""


def _scene_key(objects: Sequence[Object], changes: Sequence[Change]) -> int:
    global _last
    known = _last
    if known[0] is objects and known[1] is changes:  # to compare them takes as long as to hash
        return known[2]
    parts = [
        f"{o.index} {o.color} {o.shape} {o.size} {o.material} {o.position} {o.rotation}"
        for o in objects
    ]
    text = "\n".join((*parts, *map(str, changes)))
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    key = int.from_bytes(digest, "big", signed=True)
    _last = objects, changes, key
    return key
