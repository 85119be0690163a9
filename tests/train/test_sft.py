"""What STAR-SFT learns from: the completion, and that only it bears loss."""

from pathlib import Path

from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from star_r1.data.dataset import load
from star_r1.data.pictures import read_pair
from star_r1.model.loading import load_processor
from star_r1.train.sft import answers_of, teach
from star_r1.tvr.answer import parse_answer


def test_loss_covers_the_completion_only(data_folder: Path, model_folder: Path) -> None:
    processor = load_processor(str(model_folder))
    rows = teach(answers_of(str(data_folder), ["center"]), processor)
    collate = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    batch = collate([row | {"images": read_pair(row)} for row in map(rows.__getitem__, range(4))])
    answers = load(data_folder, views=["center"])["answer"]
    for labels, answer in zip(batch["labels"], answers, strict=False):
        learned = processor.tokenizer.decode(labels[labels != -100])
        assert learned == f"<think></think><answer>{answer}</answer><|im_end|>\n"
        assert parse_answer(learned.removesuffix("<|im_end|>\n")).well_formed


def test_views(data_folder: Path) -> None:
    assert len(answers_of(str(data_folder), ["center"])) == 12
    assert len(answers_of(str(data_folder), ["center", "left"])) == 24
