import numpy as np
import torch
from PIL import Image

from star_r1.model import language, lessons
from star_r1.model.language import IGNORE, Collator, Example
from star_r1.model.mini import build_model, build_processor

GRID = (2, 3)
SIZE = (60, 40)


def _examples(pictures: int, features: torch.Tensor) -> list[Example]:
    rng = np.random.default_rng(0)
    out = []
    for n in (2, 5):
        before, after = lessons.random_scenes(rng, (n, n), (1, 2))
        lesson = lessons.compare_pair(before, after, rng)
        out.append(Example(lesson, [features[i] for i in range(pictures)]))
    return out


def test_batch_equals_what_the_processor_and_the_model_make_of_it() -> None:
    """Ids, positions and logits: the shortcut through cached features changes nothing."""
    model, processor = build_model(0).eval(), build_processor()
    rng = np.random.default_rng(1)
    images = [
        Image.fromarray(rng.integers(256, size=(SIZE[1], SIZE[0], 3), dtype=np.uint8))
        for _ in range(2)
    ]
    seen = processor.image_processor(images=images, return_tensors="pt")
    with torch.no_grad():
        features = model.model.visual(
            seen["pixel_values"], grid_thw=seen["image_grid_thw"]
        ).pooler_output.view(2, GRID[0] * GRID[1], -1)
    collate = Collator(processor.tokenizer, GRID)
    for pictures in (0, 1, 2):
        for example in _examples(pictures, features):
            batch = collate([example])
            messages = [
                {
                    "role": "user",
                    "content": [{"type": "image"}] * pictures
                    + [{"type": "text", "text": example.lesson.user}],
                }
            ]
            text = processor.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False
            )
            text += example.lesson.assistant + processor.tokenizer.eos_token
            inputs = processor(
                text=[text], images=[images[:pictures]] if pictures else None, return_tensors="pt"
            )
            assert batch.ids.tolist() == inputs["input_ids"].tolist()
            with torch.no_grad():
                logits = model(**inputs).logits[:, :-1]
                wanted = batch.labels[:, 1:] != IGNORE
                expected = torch.nn.functional.cross_entropy(
                    logits[wanted], batch.labels[:, 1:][wanted]
                )
                found = language.loss(model, batch, collate.image_id)
            assert torch.allclose(found, expected, atol=1e-5), pictures
            if pictures:
                positions, _ = model.model.get_rope_index(**inputs)
                assert torch.equal(batch.positions, positions)


def test_padding_on_the_right_changes_nothing() -> None:
    model, processor = build_model(0).eval(), build_processor()
    collate = Collator(processor.tokenizer, GRID)
    features = torch.randn(2, 6, 128, generator=torch.Generator().manual_seed(0))
    examples = _examples(2, features)
    with torch.no_grad():
        together = language.loss(model, collate(examples), collate.image_id)
        alone = [collate([e]) for e in examples]
        counts = [(b.labels[:, 1:] != IGNORE).sum() for b in alone]
        losses = [language.loss(model, b, collate.image_id) for b in alone]
    mean = sum(n * x for n, x in zip(counts, losses, strict=True)) / sum(counts)
    assert torch.allclose(together, mean, atol=1e-5)


def test_loss_is_on_the_assistant_alone() -> None:
    processor = build_processor()
    batch = Collator(processor.tokenizer, GRID)(_examples(0, torch.zeros(0)))
    for ids, labels in zip(batch.ids, batch.labels, strict=True):
        said = processor.tokenizer.decode(labels[labels != IGNORE])
        assert said.startswith("<think>")
        assert said.endswith("</answer><|im_end|>")
        assert torch.equal(ids[labels != IGNORE], labels[labels != IGNORE])
