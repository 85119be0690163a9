"""Completions of a local vision-language model, batched without wasted work; greedy or sampled."""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final

import torch
from transformers import (
    LogitsProcessorList,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from star_r1.errors import UserError
from star_r1.evaluate.predictions import Completion
from star_r1.evaluate.predictor import Question, judge_status
from star_r1.evaluate.questions import digest
from star_r1.model.loading import TRAINABLE, load_model, load_processor
from star_r1.model.template import check_settings, render
from star_r1.tvr.answer import whole

_AHEAD: Final = 1024
"""Questions that are looked at together, with their picture files: some 200 MB."""


class LocalModel:
    """A model of Hugging Face transformers, on a GPU in bfloat16 or on the CPU in float32.

    Of each thousand prompts the longest come first: a batch holds prompts of nearly one length, and
    a lack of memory shows soon. In float32 a completion does not depend on the other rows of its
    batch: greedy ones because padding changes nothing, sampled ones because the numbers that draw
    their tokens follow from (seed, row, number). The model's generation config decides about the
    end token alone.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        batch_size: int = 64,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Args as for ``load``, but the model, on its device and in its dtype, and its processor.

        The Qwen-VL families are faster than others.
        """
        self.model, self.processor = model, processor
        self.batch_size, self.max_new_tokens = batch_size, max_new_tokens
        self.temperature, self.top_p, self.seed = temperature, top_p, seed
        self.left_out: set[str] = set()
        self.template = dict(chat_template_kwargs or {})
        check_settings(processor, self.template)

    @classmethod
    def load(cls, name_or_path: str, **settings: Any) -> "LocalModel":
        """Load a model.

        Args:
            name_or_path: as ``model.source.find_model`` takes it.
            **settings: ``batch_size``: completions written at once, at least 1.
                ``max_new_tokens``: a completion that has not ended by then is cut off, at least 1.
                ``temperature``: 0 takes the likeliest token. ``top_p``: share of the probability
                that tokens are drawn from. ``seed``: of the draws. ``chat_template_kwargs``:
                variables of the chat template.

        Raises:
            UserError: it does not load, is too large for the GPU, or its chat template has no such
                variable.
        """
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        try:
            model = load_model(name_or_path, dtype).to(device)
        except torch.OutOfMemoryError:
            raise UserError(
                f"model {name_or_path!r}: too large for the GPU's memory; serve it on several by "
                "vLLM, and ask it as endpoint:NAME"
            ) from None
        return cls(model, load_processor(name_or_path), **settings)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Weights, number format, how prompts and pictures are encoded and tokens chosen."""
        drawn = {"temperature": self.temperature, "top_p": self.top_p} if self.temperature else {}
        template = {"chat_template_kwargs": self.template} if self.template else {}
        return {
            "weights": digest(_bytes_of_weights(self.model)),
            "processor": digest(
                (
                    str(self.processor.chat_template).encode(),
                    self.processor.image_processor.to_json_string().encode(),
                )
            ),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "max_new_tokens": self.max_new_tokens,
            **drawn,
            **template,
        }

    @torch.inference_mode()
    def predict(self, questions: Iterable[Question]) -> Iterator[Completion]:
        """Answer the questions; special tokens are no part of a completion.

        A think block that the chat template begins is: the texts are ``whole``.

        Raises:
            UserError: the model has no chat template, or one that does not take these messages; the
                GPU's memory does not suffice; a picture is broken.
        """
        waiting = iter(questions)
        while some := list(islice(waiting, _AHEAD)):
            yield from self._predict(some)

    def _predict(self, questions: Sequence[Question]) -> Iterator[Completion]:
        # A row may want more completions than are written at once.
        questions = [
            replace(question, numbers=question.numbers[start : start + self.batch_size])
            for question in questions
            for start in range(0, len(question.numbers), self.batch_size)
        ]
        prompts = render(self.processor, [q.messages for q in questions], self.template)
        lengths = [len(ids) for ids in self.processor.tokenizer(prompts)["input_ids"]]
        # The id as second key keeps the views of one sample, which share a picture, in one batch.
        order = sorted(range(len(questions)), key=lambda i: (-lengths[i], questions[i].id))
        write = self._sampled if self.temperature else self._greedy
        start = 0
        while start < len(order):
            chosen = order[start : start + 1]
            many = len(questions[chosen[0]].numbers)
            for i in order[start + 1 :]:
                many = max(many, len(questions[i].numbers))  # each row takes room for so many
                if many * (len(chosen) + 1) > self.batch_size:
                    break
                chosen.append(i)
            start += len(chosen)
            try:
                yield from write([questions[i] for i in chosen], [prompts[i] for i in chosen])
            except torch.OutOfMemoryError:
                way_out = "give a smaller one" if self.batch_size > 1 else "take a larger GPU"
                raise UserError(
                    f"--batch-size {self.batch_size}: the GPU's memory does not suffice; "
                    f"{way_out}, and the same command goes on from what is finished"
                ) from None

    def _greedy(
        self, questions: Sequence[Question], prompts: Sequence[str]
    ) -> Iterator[Completion]:
        inputs = self._encode(questions, prompts)
        counts = inputs["attention_mask"].sum(1).tolist()
        known = self.model.config.model_type in TRAINABLE
        rows = (_greedy if known else _generate)(self.model, inputs, self.max_new_tokens)
        for question, prompt, tokens, count in zip(questions, prompts, rows, counts, strict=True):
            for number in question.numbers:  # the likeliest tokens are the same each time
                yield self._completion(question, prompt, number, count, tokens)

    def _sampled(
        self, questions: Sequence[Question], prompts: Sequence[str]
    ) -> Iterator[Completion]:
        if self.model.config.model_type not in TRAINABLE:
            for question, prompt in zip(questions, prompts, strict=True):
                yield from self._generate_sampled(question, prompt)
            return
        from star_r1.train.packed import share
        from star_r1.train.prompts import encode
        from star_r1.train.sampling import sample, uniforms

        share(self.model)
        rows = [{"prompt": q.messages, "images": q.see()} for q in questions]
        encoded = encode(rows, self.model.model, self.processor, self.template)
        group, draws = [], []
        for place, question in enumerate(questions):
            size = (max(question.numbers) + 1, self.max_new_tokens)
            table = uniforms(self.seed, 0, question.id, size)
            group += [place] * len(question.numbers)
            draws += [torch.from_numpy(table[number]) for number in question.numbers]
        device = self.model.device
        written = sample(
            self.model,
            encoded,
            torch.tensor(group, device=device),
            torch.stack(draws),
            self._ends,
            self._warp(),
        )
        numbers = [number for question in questions for number in question.numbers]
        for place, number, tokens in zip(group, numbers, written, strict=True):
            count = len(encoded[place].input_ids)
            yield self._completion(questions[place], prompts[place], number, count, tokens)

    def _generate_sampled(self, question: Question, prompt: str) -> Iterator[Completion]:
        """By transformers' own ``generate``; seeded by row and number, so one at a time."""
        inputs = self._encode([question], [prompt])
        count = int(inputs["attention_mask"].sum())
        for number in question.numbers:
            torch.manual_seed(zlib.crc32(f"{self.seed} {question.id} {number}".encode()))
            (tokens,) = _generate(
                self.model,
                inputs,
                self.max_new_tokens,
                do_sample=True,
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=0,
            )
            yield self._completion(question, prompt, number, count, tokens)

    def _encode(self, questions: Sequence[Question], prompts: Sequence[str]) -> Any:
        return self.processor(
            text=list(prompts),
            images=[list(question.see()) for question in questions],
            padding=True,
            return_tensors="pt",
        )

    @property
    def _ends(self) -> list[int]:
        ends = self.model.generation_config.eos_token_id
        return ends if isinstance(ends, list) else [ends]

    def _warp(self) -> LogitsProcessorList:
        vision = _vision_tokens(self.model)
        warp = LogitsProcessorList([SuppressTokensLogitsProcessor(vision, self.model.device)])
        if self.temperature != 1:
            warp.append(TemperatureLogitsWarper(self.temperature))
        if self.top_p < 1:
            warp.append(TopPLogitsWarper(self.top_p))
        return warp

    def _completion(
        self,
        question: Question,
        prompt: str,
        number: int,
        prompt_tokens: int,
        tokens: Sequence[int],
    ) -> Completion:
        """``tokens``: as written, up to and beyond the end token, which is no part of the text."""
        ends = set(self._ends)
        end = next((place for place, token in enumerate(tokens) if token in ends), None)
        text = self.processor.tokenizer.decode(tokens[:end], skip_special_tokens=True)
        return Completion(
            question.id,
            whole(text, prompt),
            number,
            judge_status(text, cut_off=end is None),
            question.key,
            prompt_tokens=prompt_tokens,
            completion_tokens=len(tokens) if end is None else end + 1,
        )


def _bytes_of_weights(network: Any) -> Iterable[bytes]:
    for name, weight in network.state_dict().items():
        yield name.encode()
        yield weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _generate(
    model: Any, inputs: Any, max_new_tokens: int, do_sample: bool = False, **sampling: Any
) -> list[list[int]]:
    """By transformers' own ``generate``, for families that ``_greedy`` does not know."""
    inputs = inputs.to(model.device, model.dtype)
    written: list[list[int]] = model.generate(
        # The penalty is no matter of sampling: greedy decoding would obey the model's own.
        **inputs,
        do_sample=do_sample,
        repetition_penalty=1.0,
        max_new_tokens=max_new_tokens,
        **sampling,
    )[:, inputs["input_ids"].shape[1] :].tolist()
    return written


def _greedy(model: Any, inputs: Any, max_new_tokens: int) -> list[list[int]]:
    """The likeliest next token up to the end token; rows that have ended leave the batch."""
    pictures = _see(model, inputs.pop("pixel_values"), inputs["image_grid_thw"])
    inputs = inputs.to(model.device)
    mask = inputs["attention_mask"]
    # A picture takes fewer positions than tokens, so positions are not counts of tokens.
    positions, _ = model.model.get_rope_index(**inputs)
    step = {"input_ids": inputs["input_ids"], "mm_encoder_outputs": {"image": pictures}}
    stops = torch.tensor(model.generation_config.eos_token_id, device=model.device)
    vision = _vision_tokens(model)

    written: list[list[int]] = [[] for _ in mask]
    alive = torch.arange(len(mask), device=model.device)
    cache = None
    for _ in range(max_new_tokens):
        out = model(
            **step,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = out.past_key_values
        logits = out.logits[:, -1]
        # A picture token in the text would ask for a picture that is not there.
        logits[:, vision] = -torch.inf
        tokens = logits.argmax(-1)
        going = ~torch.isin(tokens, stops)
        for row, token in zip(alive.tolist(), tokens.tolist(), strict=True):
            written[row].append(token)
        if not going.any():
            break
        positions = positions.amax(2, keepdim=True).amax(0, keepdim=True).expand(3, -1, 1) + 1
        if not going.all():
            kept = going.nonzero()[:, 0]
            alive, tokens, mask = alive[kept], tokens[kept], mask[kept]
            positions = positions[:, kept]
            cache.batch_select_indices(kept)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        step = {"input_ids": tokens[:, None]}
    return written


_VISION_TOKENS = {
    "image_token_id",
    "video_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
}


def _vision_tokens(model: Any) -> list[int]:
    return [token for name, token in model.config.to_dict().items() if name in _VISION_TOKENS]


def _see(model: Any, patches: torch.Tensor, grids: torch.Tensor) -> Any:
    """The features of every picture; equal pictures pass through the vision tower once."""
    pictures = torch.split(patches, grids.prod(-1).tolist())
    keys = [hashlib.sha256(picture.numpy().tobytes()).digest() for picture in pictures]
    first: dict[bytes, int] = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    distinct = list(first.values())
    seen = model.get_image_features(
        torch.cat([pictures[place] for place in distinct]).to(model.device),
        grids[distinct].to(model.device),
    )
    places = {key: place for place, key in enumerate(first)}
    order = [places[key] for key in keys]
    seen.pooler_output = tuple(seen.pooler_output[place] for place in order)
    if "deepstack_features" in seen:  # Qwen3-VL: what some inner layers saw, the same way
        seen.deepstack_features = [
            tuple(layer[place] for place in order) for layer in seen.deepstack_features
        ]
    return seen
