"""A sample: an initial scene, the changes made to it, and the view of the final picture."""

from dataclasses import dataclass, replace

from star_r1.tvr.change import Change
from star_r1.tvr.change import replay as _replay
from star_r1.tvr.scene import STANDARD_RIG, Rig, Scene
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

    def seen_from(self, view: str) -> "Sample":
        """The same scene and changes with the final picture from ``view``; the id says so."""
        return replace(self, id=f"{self.id.rsplit('-', 1)[0]}-{view}", view=view)
