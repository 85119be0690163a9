"""Image-only processors of the Qwen-VL families, and the mini model's own word-level tokenizer.

Upstream's processors insist on a video processor, which needs torchvision. TVR has no videos, so
the subclasses here leave it out; everything else is upstream's. On disk they call themselves what
upstream does, and leave the files from which its classes, where torchvision is installed, make both
halves. Pictures always go through Pillow, so that they are the same with and without torchvision.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLProcessor,
    Qwen2VLProcessor,
    Qwen3VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.utils import cached_file

from star_r1.files import write_atomic
from star_r1.tvr.vocabulary import ATTRIBUTES, VALUES

PATCH = 10
MERGE = 2
CELL = PATCH * MERGE
"""A visual token covers CELL x CELL pixels: 160 x 120 pictures have 8 x 6 of them."""

PAD, END, START = "<|endoftext|>", "<|im_end|>", "<|im_start|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
SPECIAL = (PAD, START, END, VISION_START, VISION_END, IMAGE, VIDEO)

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_WORDS = (
    *(" " + v for values in VALUES.values() for v in values),
    *("." + v for values in VALUES.values() for v in values),
    *(prefix + a for a in ATTRIBUTES for prefix in (" ", ".")),
    *(" none", "none", " same", " now", " and", " ?"),
    *("Initial objects:", "Final objects:", "Describe:", "Find:", "user", "assistant"),
    *(str(i) + colon for i in range(10) for colon in ("", ":")),  # "6:" begins the row of object 6
    *(", ", "\n"),
)

# The system message (the task and the output format) is left out: the mini model knows one task,
# and every token of a prompt costs it time. Larger models get all of it from their own template.
CHAT_TEMPLATE = (
    "{% for message in messages if message.role != 'system' %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif part.type == 'text' %}{{ part.text }}"
    "{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class _ImageOnly:
    """An upstream processor without its video half, so that torchvision is not needed.

    Use it as any processor: ``apply_chat_template``, call, ``save_pretrained``, ``from_pretrained``
    (also on the files of a published checkpoint).
    """

    image_processor: Any

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        """As upstream, without a video processor."""
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **kwargs)  # type: ignore[call-arg]

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> Any:
        """As upstream, plus the file from which upstream makes its video processor."""
        self.image_processor.save_pretrained(save_directory)
        return super().save_pretrained(save_directory, **kwargs)  # type: ignore[misc]


class ImageOnlyQwen2(_ImageOnly, Qwen2VLProcessor):  # type: ignore[misc]
    """Of Qwen2-VL."""


class ImageOnlyProcessor(_ImageOnly, Qwen2_5_VLProcessor):  # type: ignore[misc]
    """Of Qwen2.5-VL, and of the mini model."""


class ImageOnlyQwen3(_ImageOnly, Qwen3VLProcessor):  # type: ignore[misc]
    """Of Qwen3-VL, whose videos are prepared otherwise than its pictures."""

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> Any:
        """As the others, plus what upstream needs to know of videos (as published)."""
        saved = super().save_pretrained(save_directory, **kwargs)
        pictures = self.image_processor.to_dict()
        same = ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")
        videos = {
            **{key: pictures[key] for key in same},
            "size": {"longest_edge": 25_165_824, "shortest_edge": 4096},
            "processor_class": "Qwen3VLProcessor",
            "video_processor_type": "Qwen3VLVideoProcessor",
        }
        target = Path(save_directory) / "video_preprocessor_config.json"
        write_atomic(target, json.dumps(videos, indent=2) + "\n")
        return saved


PROCESSORS: dict[str, Any] = {
    "Qwen2VLProcessor": ImageOnlyQwen2,
    "Qwen2_5_VLProcessor": ImageOnlyProcessor,
    "Qwen3VLProcessor": ImageOnlyQwen3,
}
"""By upstream's name."""

# Saved files name the class that wrote them; AutoProcessor elsewhere must find upstream's name,
# or it silently returns a bare tokenizer.
for _name, _class in PROCESSORS.items():
    _class.__name__ = _name


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The mini model's tokenizer: one token a word of the task, bytes for anything else.

    Lossless on any text: ``decode(encode(text)) == text``.
    """
    special = [(token, 0.0) for token in SPECIAL]
    words = [(word, -1.0) for word in (*TAGS, *_WORDS)]
    other = [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    tokenizer = Tokenizer(
        models.Unigram(
            [*special, *words, ("<unk>", -100.0), *other],
            byte_fallback=True,
            unk_id=len(special) + len(words),
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(
            r"</?[a-z]+>|(?:Initial|Final) objects:|Describe:|Find:|[0-9]:|[ .]?[a-z]+| \\?|, |."
        ),
        "isolated",
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START, VISION_START, VISION_END, IMAGE, VIDEO],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def build_processor() -> ImageOnlyProcessor:
    """The mini model's processor: its tokenizer, and pictures cut as they are, never resized."""
    images = Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        merge_size=MERGE,
        do_resize=True,
        min_pixels=CELL * CELL,
        max_pixels=160 * 120,
    )
    return ImageOnlyProcessor(images, build_tokenizer(), chat_template=CHAT_TEMPLATE)


def load_processor(
    path: str | Path, min_pixels: int | None = None, max_pixels: int | None = None
) -> Any:
    """Read a saved processor: ours, that of a published checkpoint, or another family's.

    Args:
        path: a folder or a Hub name.
        min_pixels: smaller pictures are enlarged to as many pixels; the default is the saved one.
        max_pixels: larger pictures are reduced to as many.

    Raises:
        OSError, ValueError, ImportError: it is not there, or not to be made here; another family's
            picture size has no such bounds.
    """
    bounds = {"shortest_edge": min_pixels, "longest_edge": max_pixels}
    given = {key: pixels for key, pixels in bounds.items() if pixels is not None}
    ours = PROCESSORS.get(_class_name(path))
    if ours is None:
        if given:
            raise ValueError("picture sizes can be bounded for Qwen-VL models only")
        return AutoProcessor.from_pretrained(path, padding_side="left")
    processor = ours.from_pretrained(path, padding_side="left")
    processor.image_processor = Qwen2VLImageProcessorPil.from_pretrained(path)
    processor.image_processor.size |= given  # upstream's "edges" are numbers of pixels
    return processor


def _class_name(path: str | Path) -> str:
    """The processor class that the files at ``path`` name, where upstream looks for it."""
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        file = cached_file(path, name, _raise_exceptions_for_missing_entries=False)
        if file is not None:
            found = json.loads(Path(file).read_text(encoding="utf-8")).get("processor_class")
            if found is not None:
                return str(found)
    return ""
