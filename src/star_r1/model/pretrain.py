"""``star-r1 pretrain``: makes the mini model from nothing, its own pictures and texts included.

Three steps, each skipped where an earlier run finished it: generate pictures, align the vision
tower with the words, teach the language model its lessons. Then all is measured on held-out
pictures and saved in Hub layout with a model card.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor, nn

from star_r1.data.build import generate
from star_r1.data.intake import claim
from star_r1.errors import UserError
from star_r1.files import alone, write_atomic
from star_r1.model import language, lessons
from star_r1.model.align import WORDS, alignment_loss, project, read_cells
from star_r1.model.card import write_card
from star_r1.model.language import Collator, Example
from star_r1.model.lessons import Lesson
from star_r1.model.mini import build_model
from star_r1.model.pictures import Pictures, read_pictures
from star_r1.model.processor import CELL, build_processor
from star_r1.progress import progress
from star_r1.provenance import provenance
from star_r1.tvr.answer import parse_answer
from star_r1.tvr.change import difference
from star_r1.tvr.sampler import SceneRules
from star_r1.tvr.scene import Scene

SIZE = (160, 120)
GRID = (SIZE[1] // CELL, SIZE[0] // CELL)
OBJECTS = (2, 5)
"""Visible objects in the lessons; pictures hold up to one more."""

Plan = tuple[tuple[float, dict[str, float]], ...]
"""Until which share of the steps, which lessons with which share."""

TEXT_LESSONS: dict[str, Callable[[Scene, Scene, np.random.Generator], Lesson]] = {
    "compare": lessons.compare_lists,
    "find in list": lambda before, after, rng: lessons.find_in_list(after.visible, rng),
    "find by index": lambda before, after, rng: lessons.find_by_index(before, rng),
}

SEED, SAMPLES, SAMPLES_PER_PIXEL = 1000, 2000, 8
ALIGN_STEPS, LIST_STEPS, PICTURE_STEPS, BATCH, LR = 1300, 1800, 800, 64, 3e-3
"""What the shipped weights were made with."""

LISTS: Plan = (
    (0.2, {"find in list": 0.8, "find by index": 0.2}),
    (1.0, {"compare": 0.8, "find in list": 0.15, "find by index": 0.05}),
)
PICTURES: Plan = (
    (1.0, {"compare": 0.3, "find in list": 0.05, "describe": 0.2, "find": 0.25, "pair": 0.2}),
)
"""First looking up an object in a list, then comparing lists; pictures join in once that is nearly
perfect, or there would be nothing for RL to compose."""


def fit(
    title: str,
    named: Sequence[tuple[str, Tensor]],
    loss: Callable[[int], Tensor],
    steps: int,
    lr: float,
) -> None:
    """Minimise ``loss(step)``: Muon for matrices, AdamW for embeddings, norms and biases.

    The learning rate (that of AdamW; Muon's update is scaled to match) warms up, stays, and
    falls linearly to zero over the last 40%.
    """
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in named if p.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    with progress(title, steps, "steps") as advance:
        for step in range(steps):
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = lr * min(1.0, (step + 1) / 50, 2.5 * (1 - step / steps))
            loss(step).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            advance()


def align(
    model: Any, processor: Any, pictures: Pictures, steps: int, batch: int, lr: float, seed: int
) -> None:
    """Train the vision tower so that its tokens hold the words of what they see.

    Pictures are mirrored at random: left and right carry no meaning here.
    """
    words = word_embeddings(model, processor).detach()
    rng = np.random.default_rng((seed, 1))

    def loss(step: int) -> Tensor:
        rows = rng.integers(pictures.held_out, size=batch)
        mirrored = rng.random(batch) < 0.5
        images = _mirror(pictures.images[rows], mirrored)
        targets = _mirror(pictures.targets[rows].reshape(batch, *GRID, -1), mirrored)
        features = see(model, processor, images)
        wanted = torch.from_numpy(targets.reshape(batch, -1, len(WORDS))).float()
        return alignment_loss(features, words, wanted)

    fit("Aligning the vision tower", list(model.model.visual.named_parameters()), loss, steps, lr)


def teach(
    model: Any,
    processor: Any,
    plan: Plan,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    pictures: Pictures | None = None,
    features: Tensor | None = None,
) -> None:
    """Teach the language model the lessons of ``plan``; the vision tower stays as it is.

    Args:
        model, processor: of ``model.mini``.
        plan: ``LISTS`` or ``PICTURES``.
        steps: optimizer steps.
        batch: lessons a step.
        lr: peak learning rate.
        seed: of the lessons.
        pictures: what lessons with pictures are made from.
        features: (N, tokens, hidden), the pictures as the vision tower sees them.
    """
    collate = Collator(processor.tokenizer, GRID)
    rng = np.random.default_rng((seed, 2))
    named = [(name, p) for name, p in model.named_parameters() if "visual" not in name]

    def loss(step: int) -> Tensor:
        mix = next(mix for end, mix in plan if step < end * steps)
        kind = str(rng.choice(list(mix), p=list(mix.values())))
        if kind in TEXT_LESSONS:
            examples = text_examples(kind, rng, batch)
        else:
            assert pictures is not None
            assert features is not None
            examples = picture_examples(kind, rng, batch, pictures, features)
        with torch.autocast("cpu", torch.bfloat16):
            return language.loss(model, collate(examples), collate.image_id)

    fit("Teaching the language model", named, loss, steps, lr)


def text_examples(kind: str, rng: np.random.Generator, count: int) -> list[Example]:
    """``count`` lessons of one of ``TEXT_LESSONS``, all with as many objects: little padding."""
    n = int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))
    # Many changes at once give many chances to learn from; one or two are what is asked later.
    changes = (1, 2) if rng.random() < 0.5 else (1, max(3, n))
    scenes = [lessons.random_scenes(rng, (n, n), changes) for _ in range(count)]
    return [Example(TEXT_LESSONS[kind](before, after, rng)) for before, after in scenes]


def picture_examples(
    kind: str, rng: np.random.Generator, count: int, pictures: Pictures, features: Tensor
) -> list[Example]:
    """``count`` lessons that ``describe`` or ``find`` in a picture, or compare a ``pair``."""
    if kind == "pair":
        pairs = [pair for pair in pictures.pairs if pair[1] < pictures.held_out]
        chosen = [pairs[i] for i in rng.integers(len(pairs), size=count)]
        return [
            Example(lessons.compare_pair(before, after, rng), (features[i], features[j]))
            for i, j, before, after in chosen
        ]
    lesson = lessons.describe if kind == "describe" else lessons.find
    return [
        Example(lesson(pictures.objects[i], rng), (features[i],))
        for i in rng.integers(pictures.held_out, size=count)
        if pictures.objects[i]
    ]


def word_embeddings(model: Any, processor: Any) -> Tensor:
    """The rows of the embedding that stand for ``WORDS``: (17, hidden)."""
    ids = processor.tokenizer.convert_tokens_to_ids(list(WORDS))
    return model.get_input_embeddings().weight[ids]  # type: ignore[no-any-return]


def orthogonal_words(model: Any, processor: Any, seed: int) -> None:
    """Give the 17 words orthonormal embeddings, and all others random ones of that length."""
    weight = model.get_input_embeddings().weight
    ids = processor.tokenizer.convert_tokens_to_ids(list(WORDS))
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        weight.normal_(std=weight.shape[1] ** -0.5, generator=random)
        basis, _ = torch.linalg.qr(torch.randn(weight.shape[1], len(ids), generator=random))
        weight[ids] = basis.T


def see(model: Any, processor: Any, images: NDArray[np.uint8]) -> Tensor:
    """Visual tokens of pictures (B, H, W, 3): (B, tokens, hidden)."""
    inputs = processor.image_processor(images=list(images), return_tensors="pt")
    with torch.autocast("cpu", torch.bfloat16):
        out = model.model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"])
    return out.pooler_output.float().view(len(images), GRID[0] * GRID[1], -1)  # type: ignore[no-any-return]


@torch.no_grad()
def see_all(model: Any, processor: Any, images: NDArray[np.uint8], batch: int = 64) -> Tensor:
    """``see`` for many pictures, in float32."""
    parts = []
    with progress("Looking at the pictures", len(images), "pictures") as advance:
        for start in range(0, len(images), batch):
            inputs = processor.image_processor(
                images=list(images[start : start + batch]), return_tensors="pt"
            )
            out = model.model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"])
            parts.append(out.pooler_output.view(-1, GRID[0] * GRID[1], out.pooler_output.shape[-1]))
            advance(len(parts[-1]))
    return torch.cat(parts)


def perception(model: Any, processor: Any, pictures: Pictures, features: Tensor) -> dict[str, Any]:
    """Per view, the share of held-out objects whose token names each attribute, and all four."""
    held = project(features[pictures.held_out :], word_embeddings(model, processor))
    targets = torch.from_numpy(pictures.targets[pictures.held_out :]).float()
    present = targets.amax(-1) > 0
    right = read_cells(held)[present] == read_cells(targets)[present]
    views = np.array(pictures.views[pictures.held_out :])
    owner = views[present.nonzero()[:, 0].numpy()]
    names = ("color", "shape", "size", "material")
    return {
        view: dict(zip(names, right[owner == view].float().mean(0).tolist(), strict=True))
        | {
            "all": right[owner == view].all(1).float().mean().item(),
            "n": int((owner == view).sum()),
        }
        for view in sorted(set(owner.tolist()))
    }


@torch.no_grad()
def reasoning(model: Any, processor: Any, count: int = 256, seed: int = 0) -> dict[str, float]:
    """How often greedy reasoning over two text lists is right, on lists never seen before.

    Returns:
        ``lines``: share of compared objects whose line is right; ``answers``: share of answers
        that hold exactly the changes the reasoning came across; ``covered``: objects compared, as
        a share of the visible.
    """
    rng = np.random.default_rng((seed, 3))
    tokenizer = processor.tokenizer
    collate = Collator(tokenizer, GRID)
    lines = right = answers = 0
    covered = 0.0
    for start in range(0, count, 64):
        n = OBJECTS[0] + start // 64 % (OBJECTS[1] - OBJECTS[0] + 1)
        scenes = [lessons.random_scenes(rng, (n, n), (1, 2)) for _ in range(64)]
        texts = [collate.head(Example(lessons.compare_lists(a, b, rng))) for a, b in scenes]
        inputs = tokenizer(texts, return_tensors="pt", padding=True)
        out = model.generate(**inputs, max_new_tokens=128, do_sample=False)
        said = tokenizer.batch_decode(out[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
        for text, (a, b) in zip(said, scenes, strict=True):
            answer = parse_answer(text)
            truth = {str(o.index): lessons.compare_line(a, b, o.index) for o in a.visible}
            mine = [line for line in answer.reasoning.splitlines() if line]
            lines += len(mine)
            right += sum(truth.get(line[:1]) == line for line in mine)
            seen = {line[:1] for line in mine}
            covered += len(seen) / n
            wanted = [c for c in difference(a, b) if str(c.index) in seen]
            answers += sorted(answer.changes) == sorted(wanted)
    return {"lines": right / max(lines, 1), "answers": answers / count, "covered": covered / count}


def _mirror(arrays: NDArray[Any], which: NDArray[np.bool_]) -> NDArray[Any]:
    """Flip (B, rows, columns, ...) left to right where ``which``."""
    return np.where(which.reshape(-1, *[1] * (arrays.ndim - 1)), arrays[:, :, ::-1], arrays)


def save_mini(
    model: Any, processor: Any, out: Path, settings: dict[str, Any], measured: dict[str, Any]
) -> None:
    """Write weights, processor, ``pretrain.json`` and the model card to ``out``."""
    model.save_pretrained(out)
    processor.save_pretrained(out)
    made = {"settings": settings, "measured": measured} | provenance()
    write_atomic(out / "pretrain.json", json.dumps(made, indent=2) + "\n")
    sizes = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in (("language", model.model.language_model), ("vision", model.model.visual))
    }
    write_atomic(out / "README.md", write_card(made, sizes))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see 'star-r1 pretrain --help'")


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``star-r1 pretrain`` with command-line arguments ``argv``.

    Raises:
        UserError: the folder cannot be written, holds stages of other settings, or another process
            makes a model in it.
    """
    parser = _Parser(
        prog="star-r1 pretrain",
        description="Make the mini model from nothing: pictures, vision, language. The defaults "
        "make the shipped weights, in about an hour on two CPU cores. A stage that an earlier run "
        "finished is not done again.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="scenes, four pictures each")
    parser.add_argument("--align-steps", type=int, default=ALIGN_STEPS)
    parser.add_argument("--list-steps", type=int, default=LIST_STEPS)
    parser.add_argument("--picture-steps", type=int, default=PICTURE_STEPS)
    parser.add_argument("--batch", type=int, default=BATCH, help="pictures or lessons a step")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    args = parser.parse_args(argv)

    # Vanishing activations become denormal numbers, on which CPUs are many times slower. The switch
    # is the processor's, for this thread: whoever calls gets it back as it was by default.
    torch.set_flush_denormal(True)
    try:
        with alone(args.out, "--out", "pretraining"):
            _make(args)
    finally:
        torch.set_flush_denormal(False)


def _make(args: argparse.Namespace) -> None:
    stages = args.out / "pretraining"
    settings = {k: v for k, v in vars(args).items() if k not in ("out", "workers")}
    claim(stages / "settings.json", settings, "pretraining", begun=True)
    generate(
        stages / "pictures",
        args.samples,
        args.seed,
        SIZE,
        rules=SceneRules(visible=(OBJECTS[0], OBJECTS[1] + 1)),
        workers=args.workers,
        samples_per_pixel=SAMPLES_PER_PIXEL,
    )
    pictures = read_pictures(stages / "pictures", GRID)
    processor = build_processor()
    model = build_model(args.seed)
    model.set_attn_implementation("eager")  # faster than the fused kernel at this size, on a CPU
    orthogonal_words(model, processor, args.seed)

    def stage(name: str, part: nn.Module, work: Callable[[], None]) -> None:
        path = stages / f"{name}.safetensors"
        if path.exists():
            part.load_state_dict(load_file(path))
        else:
            work()
            write_atomic(path, save(dict(part.state_dict())))

    seed, batch = args.seed, args.batch
    stage(
        "align",
        model.model.visual,
        lambda: align(model, processor, pictures, args.align_steps, batch, LR, seed),
    )
    stage(
        "lists",
        model.model.language_model,
        lambda: teach(model, processor, LISTS, args.list_steps, batch, LR, seed),
    )
    features = see_all(model, processor, pictures.images)
    measured: dict[str, Any] = {"perception": perception(model, processor, pictures, features)}
    stage(
        "pictures",
        model.model.language_model,
        lambda: teach(
            model, processor, PICTURES, args.picture_steps, batch, LR / 2, seed, pictures, features
        ),
    )
    model.set_attn_implementation("sdpa")
    measured["reasoning"] = reasoning(model, processor)
    save_mini(model, processor, args.out, settings, measured)
    print(json.dumps(measured, indent=1))
    print(f"The model is in {args.out}. Next:")
    print(f"  star-r1 evaluate --model {args.out} --data DIR --out RUN")
