"""``star-r1 pretrain``: makes the mini model from nothing, its own pictures and texts included.

Three steps, each skipped where an earlier run finished it: generate pictures, align the vision
tower with the words, teach the language model its lessons. Then all is measured on held-out
pictures and saved in Hub layout with a model card.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor, nn

from star_r1.data.build import generate
from star_r1.files import write_atomic
from star_r1.model import language, lessons
from star_r1.model.align import WORDS, alignment_loss, project, read_cells
from star_r1.model.language import Collator, Example
from star_r1.model.mini import build_model
from star_r1.model.pictures import Pictures, read_pictures
from star_r1.model.processor import CELL, build_processor
from star_r1.progress import progress
from star_r1.tvr.answer import parse_answer
from star_r1.tvr.change import difference
from star_r1.tvr.sampler import SceneRules

SIZE = (160, 120)
GRID = (SIZE[1] // CELL, SIZE[0] // CELL)
OBJECTS = (2, 5)
"""Visible objects in the lessons; pictures hold up to one more."""

SEED, SAMPLES, ALIGN_STEPS, LANGUAGE_STEPS = 1000, 1500, 1500, 3000
ALIGN_LR, TEACH_LR = 2e-3, 3e-3
"""What the shipped weights were made with."""

CURRICULUM: tuple[tuple[float, dict[str, float]], ...] = (
    (0.15, {"find in list": 1.0}),
    (0.55, {"compare": 0.7, "find in list": 0.3}),
    (1.0, {"compare": 0.4, "find in list": 0.05, "describe": 0.15, "find": 0.2, "pair": 0.2}),
)
"""Until which share of the language steps, which lessons with which share: looking up an object in
a list, then comparing lists, then pictures. Comparing lists must be nearly perfect before there
is anything for RL to compose."""


def fit(
    title: str, named: Sequence[tuple[str, Tensor]], loss: Callable[[int], Tensor], steps: int, lr: float
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


def align(model: Any, processor: Any, pictures: Pictures, steps: int, batch: int, lr: float, seed: int) -> None:
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
    model: Any, processor: Any, pictures: Pictures, features: Tensor, steps: int, batch: int, lr: float, seed: int
) -> None:
    """Teach the language model its lessons; ``features`` are the pictures as the tower sees them."""
    collate = Collator(processor.tokenizer, GRID)
    rng = np.random.default_rng((seed, 2))
    named = [(name, p) for name, p in model.named_parameters() if "visual" not in name]
    pairs = [pair for pair in pictures.pairs if pair[1] < pictures.held_out]

    def loss(step: int) -> Tensor:
        mix = next(mix for end, mix in CURRICULUM if step < end * steps)
        kind = rng.choice(list(mix), p=list(mix.values()))
        examples = make_examples(str(kind), rng, batch, pictures, pairs, features)
        with torch.autocast("cpu", torch.bfloat16):
            return language.loss(model, collate(examples), collate.image_id)

    fit("Teaching the language model", named, loss, steps, lr)


def make_examples(
    kind: str,
    rng: np.random.Generator,
    count: int,
    pictures: Pictures,
    pairs: Sequence[tuple[int, int, Any, Any]],
    features: Tensor,
) -> list[Example]:
    """``count`` lessons of one kind."""
    if kind in ("compare", "find in list"):
        n = int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))  # one number a batch: little padding
        changes = (1, 2) if rng.random() < 0.5 else (1, max(3, n))
        scenes = [lessons.random_scenes(rng, (n, n), changes) for _ in range(count)]
        if kind == "compare":
            return [Example(lessons.compare_lists(a, b, rng)) for a, b in scenes]
        return [Example(lessons.find_in_list(b.visible, rng)) for _, b in scenes]
    if kind == "pair":
        chosen = [pairs[i] for i in rng.integers(len(pairs), size=count)]
        return [
            Example(lessons.compare_pair(a, b, rng), (features[i], features[j]))
            for i, j, a, b in chosen
        ]
    lesson = lessons.describe if kind == "describe" else lessons.find
    rows = rng.integers(pictures.held_out, size=count)
    return [
        Example(lesson(pictures.objects[i], rng), (features[i],))
        for i in rows
        if pictures.objects[i]
    ]


def word_embeddings(model: Any, processor: Any) -> Tensor:
    """The rows of the embedding that stand for ``WORDS``: (17, hidden)."""
    ids = processor.tokenizer.convert_tokens_to_ids(list(WORDS))
    return model.get_input_embeddings().weight[ids]  # type: ignore[no-any-return]


def orthogonal_words(model: Any, processor: Any) -> None:
    """Give the 17 words orthonormal embeddings, and all others the same length."""
    weight = model.get_input_embeddings().weight
    ids = processor.tokenizer.convert_tokens_to_ids(list(WORDS))
    with torch.no_grad():
        nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        weight[ids] = nn.init.orthogonal_(torch.empty(len(ids), weight.shape[1]))


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
        | {"all": right[owner == view].all(1).float().mean().item(), "n": int((owner == view).sum())}
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


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``star-r1 pretrain`` with command-line arguments ``argv``.

    Raises:
        UserError: the folder cannot be written, or holds pictures of other settings.
    """
    parser = argparse.ArgumentParser(
        prog="star-r1 pretrain", description="Make the mini model: pictures, vision, language."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="scenes to draw")
    parser.add_argument("--align-steps", type=int, default=ALIGN_STEPS)
    parser.add_argument("--language-steps", type=int, default=LANGUAGE_STEPS)
    parser.add_argument("--batch", type=int, default=64, help="pictures or lessons a step")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    args = parser.parse_args(argv)

    # Tiny activations become denormal numbers, on which CPUs are many times slower.
    torch.set_flush_denormal(True)
    work = args.out / "pretraining"
    generate(
        work / "pictures",
        args.samples,
        args.seed,
        SIZE,
        rules=SceneRules(visible=(OBJECTS[0], OBJECTS[1] + 1)),
        workers=args.workers,
    )
    pictures = read_pictures(work / "pictures", GRID)
    processor = build_processor()
    model = build_model(args.seed)
    model.set_attn_implementation("eager")  # on a CPU and at this length faster than fused
    orthogonal_words(model, processor)

    aligned = work / "aligned.safetensors"
    if aligned.exists():
        model.model.visual.load_state_dict(load_file(aligned))
    else:
        align(model, processor, pictures, args.align_steps, args.batch, ALIGN_LR, args.seed)
        write_atomic(aligned, save(dict(model.model.visual.state_dict())))
    features = see_all(model, processor, pictures.images)
    measured: dict[str, Any] = {"perception": perception(model, processor, pictures, features)}
    print(json.dumps(measured["perception"], indent=2))

    teach(model, processor, pictures, features, args.language_steps, args.batch, TEACH_LR, args.seed)
    model.set_attn_implementation("sdpa")
    measured["reasoning over text lists"] = reasoning(model, processor)
    settings = {k: v for k, v in vars(args).items() if k not in ("out", "workers")}
    save_mini(model, processor, args.out, settings, measured)
    print(f"Model: {args.out}\\nNext: star-r1 evaluate --model {args.out} --data DIR --out RUN")
