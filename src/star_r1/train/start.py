"""What a training begins with in its folder: nothing, its own run to go on with, or a refusal.

It is decided before anything is loaded or written, by ``look``, which the dry run asks as well.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from accelerate.utils import broadcast_object_list
from transformers.trainer import TRAINER_STATE_NAME

from star_r1.errors import UserError
from star_r1.files import alone
from star_r1.model.source import find_model, resolve
from star_r1.provenance import provenance
from star_r1.train.checkpoints import COMPLETE, checkpoints, last_checkpoint
from star_r1.train.identity import (
    default_settings,
    describe_model,
    differences,
    follows_end,
    identify,
)
from star_r1.train.record import cut_legs, end_of, read_record
from star_r1.train.terminal import say

MODEL_CONFIGS: Final = ("config.json", "adapter_config.json")
"""One of them makes a folder a model, or a LoRA adapter."""
HOLDS: Final = ("--output_dir", "training")
"""What ``files.alone`` says of the folder."""
_RESUME: Final = "--resume_from_checkpoint"
_ANEW: Final = "--restart true, which moves that run aside and begins anew"
_ARITHMETIC: Final = ("torch", "transformers", "trl")
"""Packages whose versions may change the last digits."""


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    Attributes:
        folder: of the run.
        checkpoint: to go on from; None to begin.
        step: that it was written after.
        done: steps of a run that has reached its end; None for others.
        legs: of the run up to ``step``, as in ``training.json``.
        aside: where the run that is in the folder now is moved, when this one begins.
        again: what goes on with the run when it was interrupted.
        notes: what is not as it was, one line each.
        identity: what the numbers follow from; ``begin`` adds it.
        held: what keeps other processes away; ``begin`` adds it.
    """

    folder: Path
    checkpoint: Path | None = None
    step: int = 0
    done: int | None = None
    legs: Sequence[Mapping[str, Any]] = ()
    aside: Path | None = None
    again: str = "the same command"
    notes: Sequence[str] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)
    held: ExitStack = field(default_factory=ExitStack)

    def as_loaded(self, model: str) -> "Start":
        """With the commit of a model of the Hub, which its loading may have fetched.

        Raises:
            UserError: it is another one than the checkpoint's run began with.
        """
        if Path(resolve(model)).is_dir() and Path(find_model(model).weights).is_dir():
            return self
        found = describe_model(model)
        then = _record(self.checkpoint)["identity"] if self.checkpoint else {}
        if differ := differences(then, found, {}):
            raise UserError(
                f"{self.folder}: the model has changed on the Hub: {'; '.join(differ)}. Give the "
                "folder of the commit of then in the Hub's cache as --model"
            )
        return replace(self, identity={**self.identity, **found})

    def clear(self) -> None:
        """Move aside what ``--restart`` asks to, in the first process; the folder stays held.

        Raises:
            UserError: it cannot be moved.
        """
        if self.aside is None:
            return
        try:
            self.folder.resolve().rename(self.aside)
        except OSError as error:
            raise UserError(f"--restart: cannot move {self.folder}: {error.strerror}") from None
        self.held.enter_context(alone(self.folder, *HOLDS))
        say(f"moved the run in {self.folder} to {self.aside}")


@contextmanager
def begin(arguments: Any, args: Any, numbers: Any = None) -> Iterator[Start]:
    """Hold the folder of a run, made if absent, and decide what the run begins with.

    With several processes the first one decides for all.

    Args:
        arguments: ``StarArguments``.
        args: TRL's config.
        numbers: of the reward; None in SFT.

    Raises:
        UserError: the folder is another run's, or another process trains into it; the data or the
            model is not there.
    """
    with ExitStack() as held:
        found: list[Start | UserError | None] = [None]
        if args.process_index == 0:
            try:
                identity = identify(arguments, args, numbers)
                held.enter_context(alone(Path(args.output_dir), *HOLDS))
                start = look(arguments, args, lambda: identity)
                found = [replace(start, identity=identity)]
            except UserError as error:
                found = [error]
        if args.world_size > 1:
            broadcast_object_list(found)
        (begun,) = found
        if not isinstance(begun, Start):  # one line, not one a process
            raise begun if begun is not None and args.process_index == 0 else SystemExit(2)
        for note in begun.notes:
            say(f"note: {note}")
        yield replace(begun, held=held)


def look(arguments: Any, args: Any, identity: Callable[[], Mapping[str, Any]]) -> Start:
    """What a run would begin with; nothing is written.

    Args:
        arguments: ``StarArguments``.
        args: TRL's config.
        identity: of the run, asked for where there is something to compare it with.

    Raises:
        UserError: the folder or the checkpoint is another run's, or cannot be gone on from.
    """
    start = _decide(arguments, args, identity)
    if args.save_only_model and start.done is None:
        note = "--save_only_model: without the optimizer, an interrupted run cannot go on"
        return replace(start, notes=[*start.notes, note])
    return start


def _decide(arguments: Any, args: Any, identity: Callable[[], Mapping[str, Any]]) -> Start:
    folder = Path(args.output_dir)
    own = last_checkpoint(folder)
    begun = own is not None or _holds_work(folder)
    if arguments.restart:
        aside = _aside(arguments, args, folder) if begun else None
        return Start(folder, aside=aside, again="the same command without --restart")
    given = _given(args.resume_from_checkpoint, folder, own)
    if not begun and given is None:
        return Start(folder)
    now, defaults = identity(), default_settings(args, arguments)
    record: Mapping[str, Any] = {}
    if begun:
        record = _record(folder) or (_record(own) if own else {})
        if not record:
            raise UserError(
                f"{folder} holds a training, or a model, whose record does not say what its "
                "numbers follow from (an older star-r1's, or another program's); give another "
                f"--output_dir, or {_ANEW}"
            )
        if differ := differences(record["identity"], now, defaults):
            raise UserError(
                f"{folder} holds a run with other settings: {'; '.join(differ)}. Give another "
                f"--output_dir, the settings of then, or {_ANEW}"
            )
    if given is not None and given != own:
        of_given = _record(given)
        differ = differences(of_given.get("identity", {}), now, defaults)
        if differ or not of_given:
            why = "; ".join(differ) or "its record does not say which"
            raise UserError(
                f"{_RESUME} {given}: written by a run with other settings: {why}. Give those, or "
                f"start from its weights: --model {given} without {_RESUME}"
            )
        if own is None or _state(given)["global_step"] > _state(own)["global_step"]:
            if args.load_best_model_at_end:
                raise UserError(
                    f"{_RESUME} {given}: the best checkpoint so far may be beside it, where "
                    f"--load_best_model_at_end does not look; give --output_dir {given.parent}"
                )
            return _go_on(folder, given, of_given, args)
        if given.resolve().parent == folder.resolve():
            raise UserError(
                f"{_RESUME} {given}: the run has gone on to {own}; leave the flag off to go on "
                f"from there, or give another --output_dir to go on from {given.name}"
            )
    return _go_on(folder, own, record, args)


def _go_on(folder: Path, checkpoint: Path | None, record: Mapping[str, Any], args: Any) -> Start:
    """From a checkpoint of this run, or from none where it kept none."""
    state: dict[str, Any] = (
        {"global_step": 0, "epoch": 0.0} if checkpoint is None else _state(checkpoint)
    )
    step: int = state["global_step"]
    legs = cut_legs(record.get("legs", ()), step)
    notes = _notes(legs, record, step, args)
    ended = record.get("steps")
    if ended and record.get("end") == end_of(args) and read_record(folder).get("steps") == ended:
        return Start(
            folder,
            checkpoint if step == ended else None,
            ended,
            done=ended,
            legs=cut_legs(record["legs"], ended),
        )
    if checkpoint is None:
        if ended:
            raise UserError(
                f"{folder} ended after {ended} steps and kept no checkpoint to go on from "
                f"(--save_strategy); give another --output_dir, or {_ANEW}"
            )
        return Start(folder, notes=(f"{folder} has no whole checkpoint: the run begins anew",))
    left = _steps_left(state, args)
    if left <= -1:
        raise UserError(
            f"{checkpoint} is past the end of {end_of(args)}; give another --output_dir, an end "
            f"after step {step}, or {_ANEW}"
        )
    if left <= 0:
        return Start(folder, checkpoint, step, done=step, legs=legs)
    if not any(checkpoint.glob("rng_state*.pth")):
        raise UserError(
            f"{checkpoint} holds weights without the optimizer (--save_only_model), so the run "
            f"cannot go on from it; start another from its weights, --model {checkpoint} with "
            f"another --output_dir, or give {_ANEW}"
        )
    return Start(folder, checkpoint, step, legs=legs, notes=notes)


def _steps_left(state: Mapping[str, Any], args: Any) -> float:
    step: int = state["global_step"]
    if args.max_steps > 0:
        return float(args.max_steps - step)
    if not state["epoch"]:
        return 1.0
    left = (args.num_train_epochs - state["epoch"]) * step / state["epoch"]
    return left if left < 0 or left > 1e-6 else 0.0


def _notes(
    legs: Sequence[Mapping[str, Any]], record: Mapping[str, Any], step: int, args: Any
) -> list[str]:
    notes, end = [], end_of(args)
    if follows_end(args) and record.get("end", end) != end:
        kind = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
        notes.append(
            f"the {kind} learning rate ran to {record['end']} up to step {step} and now runs to "
            f"{end}: the numbers will not be those of a run to {end} from the beginning"
        )
    if legs:
        then, now = legs[-1]["versions"], provenance()["versions"]
        other = [n for n in _ARITHMETIC if then.get(n) != now.get(n)]
        if other:
            said = ", ".join(f"{n} {then.get(n)} -> {now.get(n)}" for n in other)
            notes.append(f"other versions than up to step {step}: {said}; last digits may differ")
    return notes


def _given(asked: Any, folder: Path, own: Path | None) -> Path | None:
    """The checkpoint that ``--resume_from_checkpoint`` names."""
    if asked is None:
        return None
    if str(asked).lower() in ("true", "last", "1", "yes"):
        if own is None:
            raise UserError(
                f"{_RESUME} {asked}: no whole checkpoint in {folder}; leave the flag off to begin"
            )
        return own
    if str(asked).lower() in ("false", "0", "no"):
        if own is not None:
            raise UserError(
                f"{_RESUME} {asked}: {own} is there; give another --output_dir, or {_ANEW}"
            )
        return None
    path = Path(asked)
    if not path.is_dir():
        raise UserError(f"{_RESUME} {path}: no such folder; give a checkpoint-N, or 'last'")
    if not (path / COMPLETE).is_file() or not (path / TRAINER_STATE_NAME).is_file():
        inner = last_checkpoint(path)
        hint = f"give {inner}" if inner else "give a checkpoint-N that star-r1 wrote to its end"
        raise UserError(f"{_RESUME} {path}: not a whole checkpoint; {hint}")
    return own if own is not None and path.resolve() == own.resolve() else path


def _holds_work(folder: Path) -> bool:
    """Whether steps were logged, or there is a model or a checkpoint of whoever."""
    log = folder / "log.jsonl"
    if log.is_file() and log.stat().st_size:
        return True
    if any((folder / name).is_file() for name in MODEL_CONFIGS):
        return True
    return not read_record(folder) and any(any(path.iterdir()) for path in checkpoints(folder))


def _aside(arguments: Any, args: Any, folder: Path) -> Path:
    if args.resume_from_checkpoint is not None:
        raise UserError(f"--restart and {_RESUME}: give one of them")
    here = folder.resolve()
    for flag, value in (
        ("--data", arguments.data),
        ("--eval_data", arguments.eval_data),
        ("--model", arguments.model_name_or_path),
    ):
        if value and Path(value).resolve().is_relative_to(here):
            raise UserError(
                f"--restart: {flag} {value} is in {folder}, which would be moved aside; give "
                "another --output_dir"
            )
    number = 1
    while (aside := here.with_name(f"{here.name}-before-{number}")).exists():
        number += 1
    return aside


def _record(folder: Path) -> dict[str, Any]:
    """Its record, where that has an identity."""
    record = read_record(folder)
    return record if isinstance(record.get("identity"), dict) else {}


def _state(checkpoint: Path) -> dict[str, Any]:
    """Step and epoch of a checkpoint."""
    try:
        state = json.loads((checkpoint / TRAINER_STATE_NAME).read_bytes())
        return {name: state[name] for name in ("global_step", "epoch")}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{checkpoint / TRAINER_STATE_NAME}: damaged; delete {checkpoint}"
        ) from None
