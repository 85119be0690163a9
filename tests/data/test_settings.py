import json
from pathlib import Path

import pytest

from star_r1.data.settings import Settings, read_settings, to_json, versions
from star_r1.errors import UserError
from star_r1.tvr import SceneRules
from star_r1.tvr.vocabulary import STANDARD, TRANCE, Vocabulary

RECIPES = Path(__file__).parents[2] / "recipes" / "data"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"samples": 0}, "samples 0: give 1 or a greater number"),
        ({"seed": -1}, "seed -1: give 0 or a greater number"),
        ({"size": (0, 240)}, "size 0x240"),
        ({"size": (320, 5000)}, "size 320x5000"),
        ({"views": ()}, "views ''"),
        ({"views": ("left", "left")}, "views 'left,left'"),
        ({"views": ("below",)}, "views 'below'"),
        ({"views": ("az360",)}, "views 'az360'"),
        ({"split": "a/b"}, "split 'a/b'"),
        ({"samples_per_pixel": 0}, "samples per pixel 0"),
        ({"renderer": "povray"}, "renderer 'povray': choose from mitsuba, cycles"),
        ({"extras": ("masks", "normals")}, "with 'masks,normals': choose from masks, boxes, depth"),
    ],
)
def test_settings_out_of_range(changed: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        Settings(**{"samples": 1, "seed": 0} | changed)
    assert str(error.value).startswith(message)


def test_every_view_that_is_not_tances_gets_a_camera() -> None:
    settings = Settings(1, 0, views=("left", "az90", "top"), rules=SceneRules(visible=(2, 5)))
    assert settings.scene_rules == SceneRules(visible=(2, 5), extra_views=("az90", "top"))


@pytest.mark.parametrize(
    "settings",
    [
        Settings(7, 1),
        Settings(
            *(7, 1, (64, 48), ("left", "az90")),
            SceneRules((2, 5), (1, 2), TRANCE),
            *("test", 8, "cycles", ("depth", "boxes")),
        ),
        Settings(1, 0, rules=SceneRules(vocabulary=Vocabulary(sizes={"s": 0.25, "l": 1.0}))),
    ],
)
def test_what_a_dataset_says_of_itself_is_a_config(settings: Settings, tmp_path: Path) -> None:
    config = tmp_path / "generate.json"
    config.write_text(to_json([settings]))
    assert read_settings({}, config) == (settings,)


def test_versions_are_those_of_the_renderers_packages_too() -> None:
    assert {"star-r1", "pyarrow", "mitsuba"} <= set(versions([Settings(1, 0)]))
    assert "mitsuba" not in versions([Settings(1, 0, renderer="cycles")])


def test_flags_alone() -> None:
    flags = {"samples": 7, "size": "64x48", "views": "left,top", "objects": "2-5", "changes": "1"}
    more = {"attributes": "color,position", "split": "val", "with": "masks", "seed": 4}
    (settings,) = read_settings({**flags, **more})
    rules = SceneRules((2, 5), (1, 1), Vocabulary(attributes=("color", "position")))
    views = ("left", "top")
    assert settings == Settings(7, 4, (64, 48), views, rules, "val", 16, "mitsuba", ("masks",))


CONFIG = """\
size: 64x48
seed: 5
vocabulary: words.yaml
splits:
  train: {samples: 9, views: center, size: 32x32, changes: 1}
  test: {samples: 3, views: [left, right]}
"""


def test_a_config_gives_splits_that_flags_override(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    (tmp_path / "words.yaml").write_text("colors: {pink: [255, 180, 200], mint: [1, 2, 3]}")
    train, test = read_settings({}, config)
    assert (train.split, train.samples, train.size, train.views) == (
        "train",
        9,
        (32, 32),
        ("center",),
    )
    assert (test.split, test.samples, test.size, test.views) == (
        "test",
        3,
        (64, 48),
        ("left", "right"),
    )
    assert train.seed == test.seed == 5
    assert train.rules.vocabulary.values("color") == ("pink", "mint")
    both = read_settings({"samples": 2, "attributes": "color", "changes": "1"}, config)
    assert [settings.samples for settings in both] == [2, 2]
    assert {settings.rules.vocabulary.attributes for settings in both} == {("color",)}


def test_a_config_without_splits_has_one(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("samples: 3\nsplit: val\n")
    assert read_settings({}, tmp_path / "config.yaml") == (Settings(3, 0, split="val"),)
    assert read_settings({"split": "a"}, tmp_path / "config.yaml")[0].split == "a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("samples: [", "config.yaml:1: not YAML: "),
        ("samples: 3\n\tseed: 1", "config.yaml:2: not YAML: "),
        ("\x00", "config.yaml: not YAML: "),
        ("- samples", "config.yaml: give a mapping of settings"),
        ("", "config.yaml: give a mapping of settings"),
        ("seed: 3", "config.yaml: train: how many samples?"),
        ("samples: many", "config.yaml: samples many: give a whole number"),
        ("samples: true", "config.yaml: samples true: give a whole number"),
        ("samples: 3\nsize: 320", "config.yaml: size 320: give width x height in pixels"),
        ("samples: 3\nobjects: few", "config.yaml: objects few: give one number or fewest-most"),
        ("samples: 3\nviews: [1]", "config.yaml: views [1]: give names"),
        ("samples: 3\nviews: [below]", "config.yaml: train: views 'below': name one or more"),
        ("samples: 3\nobjects: 0-3", "config.yaml: train: visible objects 0-3: "),
        ("samples: 3\nrenderer: [a]", 'config.yaml: renderer ["a"]: give a name'),
        ("samples: 3\nworkers: 2", "config.yaml: workers: unknown; the keys are samples, seed"),
        ("splits: {test: {size: 9}}", "config.yaml: test: size 9: give width x height"),
        ("splits: {test: [1]}", "config.yaml: splits: test: give a mapping of settings"),
        ("splits: [test]", "config.yaml: splits: give a mapping of at least one name"),
        ("splits: {}", "config.yaml: splits: give a mapping of at least one name"),
        ("split: a\nsplits: {b: {}}", "config.yaml: split: the splits are named under 'splits'"),
        ("samples: 1\nvocabulary: no.yaml", "no.yaml: No such file or directory"),
        ("samples: 1\nvocabulary: 7", "config.yaml: vocabulary 7: give a name"),
        ("samples: 1\nvocabulary: {colors: [a]}", "config.yaml: vocabulary: colors: "),
        ("samples: 1\nvocabulary: {paints: 1}", "config.yaml: vocabulary: 'paints' is not one of"),
        ("samples: 1\nvocabulary: {colors: {a: [1, 2]}}", "config.yaml: vocabulary: colors: a is "),
        ("samples: 1\nvocabulary: {sizes: {a: 9}}", "config.yaml: vocabulary: sizes: a is 9; "),
        ("samples: 1\nattributes: weight", "config.yaml: attributes: attributes: 'weight'"),
    ],
)
def test_what_is_wrong_in_a_config_is_named(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    with pytest.raises(UserError) as error:
        read_settings({}, config)
    assert str(error.value).replace(f"{tmp_path}/", "").startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "how many samples? Give --samples"),
        ({"samples": 1, "size": "320"}, "--size 320: give width x height in pixels"),
        ({"samples": 1, "views": ""}, "views '': name one or more of center"),
        ({"samples": 1, "vocabulary": "none.yaml"}, "none.yaml: No such file or directory"),
        ({"samples": 1, "attributes": "color,color"}, "--attributes: attributes: give at least"),
    ],
)
def test_what_is_wrong_in_flags_is_named(flags: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        read_settings(flags)
    assert str(error.value).startswith(message)


def test_a_flag_that_a_config_cannot_take(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("splits: {a: {samples: 1}}")
    with pytest.raises(UserError, match=r"^--split: the splits are named under 'splits' of "):
        read_settings({"split": "b"}, tmp_path / "c.yaml")
    with pytest.raises(UserError, match=r"^--size 3: give width x height"):
        read_settings({"size": "3"}, tmp_path / "c.yaml")


def test_the_recipe_of_the_paper() -> None:
    train, test = read_settings({}, RECIPES / "trance9k.yaml")
    assert (train.split, train.samples, train.views) == ("train", 9000, ("center",))
    assert (test.split, test.samples, test.views) == ("test", 1000, ("center", "left", "right"))
    assert {settings.rules for settings in (train, test)} == {SceneRules()}
    assert {settings.size for settings in (train, test)} == {(320, 240)}


def test_the_example_of_a_vocabulary() -> None:
    (settings,) = read_settings({"samples": 1, "vocabulary": str(RECIPES / "harder.yaml")})
    assert len(settings.rules.vocabulary.values("color")) == 16
    assert settings.rules.vocabulary.attributes == STANDARD.attributes
    assert json.loads(to_json([settings]))["splits"]["train"]["samples"] == 1
