"""The model card of the mini model, from what pretraining measured."""

from typing import Any


def write_card(made: dict[str, Any], sizes: dict[str, int]) -> str:
    """The card in Markdown, with the Hub's YAML header.

    Args:
        made: ``settings``, ``measured`` (``perception`` by view, ``reasoning``) and provenance.
        sizes: parameters of the ``language`` and the ``vision`` part.
    """
    perception = made["measured"]["perception"]
    reasoning = made["measured"]["reasoning"]
    names = ("color", "shape", "size", "material", "all")
    rows = "\n".join(
        f"| {view} | {seen['n']} | " + " | ".join(f"{seen[name]:.3f}" for name in names) + " |"
        for view, seen in perception.items()
    )
    settings = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in made["settings"].items())
    machine = made["machine"]
    language, vision = (sizes[part] / 1e6 for part in ("language", "vision"))
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
tags: [transformation-driven-visual-reasoning, qwen2_5_vl]
---

# star-r1 mini

`Qwen2_5_VLForConditionalGeneration` with {language + vision:.2f} M parameters ({language:.2f} M
language, {vision:.2f} M vision), float32, for pictures of 160 x 120 pixels (48 visual tokens each).
It knows one task, to name the changes between two pictures of a table of objects, and is meant for
demonstrations, tests and experiments with the training method on a CPU. It understands no other
text.

## How it was made

By `star-r1 pretrain {settings}`, from random weights and the project's own renders alone; commit
{made["commit"]}, {made["date"]}, {machine["processor"]} ({machine["cores"]} cores).

1. **Align**: the vision tower, on pictures of all three views, learns to hold in one visual token
   an object the sum of the embeddings of its four words.
2. **Lists**: the language model, text only, looks up objects in lists and finds the changes
   between two lists.
3. **Pictures**: it describes single pictures of any view, finds objects in them, and sees the task
   itself for pairs from the center view, as examples of its form. **It never saw an answer to a
   pair of pictures from different views.** Many of the reasonings it read stop early, so that it
   does not know that comparing all objects pays.

## What it can do before RL (held-out pictures and lists)

Share of objects whose visual token names the attribute:

| view | objects | {" | ".join(names)} |
|---|---|---|---|---|---|---|
{rows}

Greedy reasoning over two text lists of 2 to 5 objects with 1 or 2 changes: {reasoning["lines"]:.1%}
of its lines are right, {reasoning["answers"]:.1%} of its answers hold exactly the changes it came
across, {reasoning["covered"]:.1%} of the objects are compared.

## Limits

Scenes of 2 to 5 visible objects in TRANCE's studio, as `star-r1 generate` draws them. Its chat
template leaves out the system message. No other use is intended.
"""
