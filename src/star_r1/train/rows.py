"""What the rows to train on look like: read without pictures, or assumed where there are none.

Where the folder is not there yet, the recipe that makes it says how many rows there will be and of
what size; prompts are then as long as those of ten objects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from trl.data_utils import prepare_multimodal_messages

from star_r1.data.dataset import check_file, find_splits, read_columns, read_row, shards
from star_r1.data.settings import Settings, read_settings
from star_r1.errors import UserError
from star_r1.model.loading import load_processor
from star_r1.model.source import find_file, find_model
from star_r1.model.template import render
from star_r1.tvr.answer import opened
from star_r1.tvr.change import parse_changes
from star_r1.tvr.prompt import build_instruction
from star_r1.tvr.vocabulary import N_OBJECTS, REFERENCE_SIZE, STANDARD, Vocabulary

CHARACTERS_A_TOKEN: Final = 3.5
"""Of prose and lists in Qwen's tokenizers, on the low side."""
TEMPLATE_TOKENS: Final = 30
"""What a chat template adds to two messages and two pictures."""
LONGEST: Final = 16
"""Rows with the most text, whose prompts are counted in tokens."""
PICTURES: Final = 2
"""Of a row."""
_PIXELS: Final = {"qwen3_vl": (65_536, 16_777_216)}
"""Family -> fewest and most pixels of a picture, as published, where not as in the others."""
_OTHERS: Final = (3136, 12_845_056)


@dataclass(frozen=True)
class Rows:
    """What is known of the rows.

    Attributes:
        count: of the views asked for; None where nothing says so.
        views: view -> rows of it in the folder; empty where the data is not there.
        size: width and height of a picture.
        columns: of the parquet files; empty where the data is not there.
        longest: the prompts with the most text, as chat messages; the longest first.
        example: ``answer``, and ``id``, ``changes`` and ``vocabulary`` of a real row.
        missing: how to make the data; empty where it is there.
    """

    count: int | None
    views: Mapping[str, int]
    size: tuple[int, int]
    columns: tuple[str, ...]
    longest: Sequence[Sequence[Mapping[str, Any]]]
    example: Mapping[str, str]
    missing: str = ""


@dataclass(frozen=True)
class Prompt:
    """The longest prompt: its tokens, the patches of its pictures, and how both were found.

    ``begun`` is the think block that its template begins for the model; None where the template is
    not at hand.
    """

    tokens: int
    patches: int
    how: str
    begun: str | None = None


def read_rows(folder: Path, views: Sequence[str], recipes: Path) -> Rows:
    """The rows in ``folder``, or those that a recipe of the same name would make.

    Args:
        folder: a dataset folder, there or not.
        views: to count.
        recipes: folder of the recipes of data; ``trance9k.yaml`` is the one of
            ``data/trance9k/train``.

    Raises:
        UserError: the data is damaged or holds no row of one of the views.
    """
    if not folder.is_dir() and folder.name not in find_splits(folder.parent):
        return _assume(folder, views, recipes)
    paths = shards(folder)
    for path in paths:
        check_file(path)
    counts: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    for row in read_columns(folder, ["id", "view", "prompt", "answer", "changes", "vocabulary"]):
        counts[row["view"]] = counts.get(row["view"], 0) + 1
        if row["view"] in views:
            rows.append(row)
    for view in views:
        if view not in counts:
            raise UserError(
                f"{folder}: no row has view {view!r}; it holds {', '.join(sorted(counts))}"
            )
    by_length = sorted(rows, key=lambda row: -_characters(row["prompt"]))
    size = read_row(folder, rows[0]["id"])["images"][0].size
    columns = tuple(pq.read_schema(paths[0]).names)
    example = {name: rows[0][name] for name in ("id", "answer", "changes", "vocabulary")}
    longest = [row["prompt"] for row in by_length[:LONGEST]]
    return Rows(len(rows), counts, size, columns, longest, example)


def _assume(folder: Path, views: Sequence[str], recipes: Path) -> Rows:
    found = [recipes / f"{part}.yaml" for part in reversed(folder.parts)]
    recipe = next((path for path in found if path.is_file()), None)
    example = {"answer": "2.color.cyan, 0.shape.cube"}
    if recipe is None:
        how = f"star-r1 generate --samples N --out {folder}"
        return Rows(None, {}, REFERENCE_SIZE, (), [_long_prompt(STANDARD)], example, how)
    settings = _split(recipe, folder)
    out = folder if folder.name == recipe.stem else folder.parent
    how = f"star-r1 generate --config {recipe} --out {out}"
    count = settings.samples * len([view for view in views if view in settings.views])
    prompt = _long_prompt(settings.rules.vocabulary)
    return Rows(count, {}, settings.size, (), [prompt], example, how)


def _split(recipe: Path, folder: Path) -> Settings:
    splits = read_settings({}, recipe)
    return next((split for split in splits if split.split == folder.name), splits[0])


def _long_prompt(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """A prompt of ten objects with the longest names."""
    names = ("size", "color", "material", "shape")
    words = " ".join(max(vocabulary.values(name), key=len) for name in names)
    table = "\n".join(["Initial objects:", *[f"0: {words}"] * N_OBJECTS])
    pictures = [{"type": "image", "text": None}] * PICTURES
    return [
        {
            "role": "system",
            "content": [{"type": "text", "text": build_instruction(vocabulary)}],
        },
        {"role": "user", "content": [*pictures, {"type": "text", "text": table}]},
    ]


def _characters(prompt: Sequence[Mapping[str, Any]]) -> int:
    return sum(len(part.get("text") or "") for turn in prompt for part in turn["content"])


def measure_prompt(
    rows: Rows,
    model: str,
    config: Any,
    min_pixels: int | None,
    max_pixels: int | None,
    template: Mapping[str, Any] | None = None,
) -> Prompt:
    """The longest prompt, by the model's processor where it is at hand, else estimated.

    Args:
        rows: to train on.
        model: folder or Hub name; nothing is downloaded.
        config: of the model.
        min_pixels, max_pixels: of a picture; None for the model's own.
        template: ``chat_template_kwargs``, as for ``render``.

    Raises:
        UserError: the processor is there and does not load, the bounds are not ones, or the chat
            template does not take the prompts.
    """
    path = find_model(model, fetch=False).processor
    files = ("tokenizer.json", "preprocessor_config.json")
    if not Path(path).is_dir() and not all(find_file(path, name, fetch=False) for name in files):
        return _estimate(rows, config, min_pixels, max_pixels)
    processor = load_processor(model, min_pixels, max_pixels)
    pictures = [Image.new("RGB", rows.size)] * PICTURES
    messages = [prepare_multimodal_messages(list(prompt), pictures) for prompt in rows.longest]
    texts = render(processor, messages, template)
    batch = processor(images=[pictures] * len(texts), text=texts, padding=True, return_tensors="pt")
    patches = int(batch["image_grid_thw"][:PICTURES].prod(-1).sum())
    longest = int(batch["attention_mask"].sum(1).max())
    return Prompt(longest, patches, "counted by the processor", opened(texts[0]))


def _estimate(rows: Rows, config: Any, min_pixels: int | None, max_pixels: int | None) -> Prompt:
    vision = config.vision_config
    fewest, most = _PIXELS.get(config.model_type, _OTHERS)
    width, height = rows.size
    cell = vision.patch_size * vision.spatial_merge_size
    height, width = smart_resize(height, width, cell, min_pixels or fewest, max_pixels or most)
    visual = PICTURES * (height // cell) * (width // cell)
    text = max(_characters(prompt) for prompt in rows.longest) / CHARACTERS_A_TOKEN
    tokens = visual + round(text) + TEMPLATE_TOKENS
    patches = visual * vision.spatial_merge_size**2
    how = f"estimated: {CHARACTERS_A_TOKEN} characters a token, and {visual} of the pictures"
    return Prompt(tokens, patches, how)


def example_answers(example: Mapping[str, str]) -> dict[str, str]:
    """A perfect answer, none, and an enumeration of all values of the true attributes.

    The last one is the hack that the paper's penalties are there to stop.

    >>> list(example_answers({"answer": "2.size.small"}).values())
    ['2.size.small', 'none', '2.size.small, 2.size.medium, 2.size.large']
    """
    vocabulary = (
        Vocabulary.from_json(example["vocabulary"]) if "vocabulary" in example else STANDARD
    )
    cells = dict.fromkeys(
        (change.index, change.attribute) for change in parse_changes(example["answer"], vocabulary)
    )
    every = [
        f"{index}.{attribute}.{value}"
        for index, attribute in cells
        for value in vocabulary.values(attribute)
    ]
    return {
        "a perfect answer": example["answer"] or "none",
        "no changes named": "none",
        "every value of these": ", ".join(every) or "none",
    }
