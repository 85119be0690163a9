"""An image-only Qwen2.5-VL processor, and the mini model's own word-level tokenizer.

The upstream ``Qwen2_5_VLProcessor`` insists on a video processor, which needs torchvision. TVR has
no videos, so the subclass here leaves it out; everything else is upstream's. On disk it calls
itself ``Qwen2_5_VLProcessor`` and leaves the files from which upstream's class, where torchvision
is installed, makes both halves.
"""

from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

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


class ImageOnlyProcessor(Qwen2_5_VLProcessor):  # type: ignore[misc]
    """``Qwen2_5_VLProcessor`` without its video half, so that torchvision is not needed.

    Use it as any processor: ``apply_chat_template``, call, ``save_pretrained``, ``from_pretrained``
    (also on the files of a published Qwen2.5-VL checkpoint).
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        """As upstream, without a video processor."""
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **kwargs)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> Any:
        """As upstream, plus the file from which upstream makes its video processor."""
        self.image_processor.save_pretrained(save_directory)
        return super().save_pretrained(save_directory, **kwargs)


# Saved files name the class that wrote them; AutoProcessor elsewhere must find upstream's name,
# or it silently returns a bare tokenizer.
ImageOnlyProcessor.__name__ = "Qwen2_5_VLProcessor"


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


def load_processor(path: str | Path, **kwargs: Any) -> ImageOnlyProcessor:
    """Read a saved processor (ours, or that of a published Qwen2.5-VL checkpoint)."""
    processor: ImageOnlyProcessor = ImageOnlyProcessor.from_pretrained(
        path, padding_side="left", **kwargs
    )
    return processor
