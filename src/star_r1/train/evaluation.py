"""Evaluation while training: its rows, and the curves of each view by themselves."""

from collections.abc import Callable, Sequence
from typing import Any

from star_r1.errors import UserError
from star_r1.train.arguments import StarArguments


def rows_to_evaluate(
    arguments: StarArguments, read: Callable[[str, Sequence[str]], Any]
) -> Any | dict[str, Any] | None:
    """The rows of ``--eval_data``: of one view, or view -> rows; None where there is no data.

    Args:
        arguments: of the run.
        read: reads the rows of some views from a folder.
    """
    if not arguments.eval_data:
        return None
    views = arguments.views_to_evaluate
    if len(views) == 1:
        return read(arguments.eval_data, views)
    return {view: read(arguments.eval_data, [view]) for view in views}


class ByView:
    """Mixin for a TRL trainer: with rows of several views, ``eval_left_reward`` and its like.

    Trainer names the loss so, but what TRL measures itself would go under one name for all views,
    each over the one before (TRL 1.16).
    """

    _view = ""

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """As Trainer, which calls it again for each view.

        Raises:
            UserError: ``--metric_for_best_model`` is none of what was measured.
        """
        trainer: Any = self
        self._view = metric_key_prefix.removeprefix("eval").removeprefix("_")
        metrics: dict[str, float] = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)  # type: ignore[misc]
        wanted = trainer.args.metric_for_best_model
        if wanted and not self._view and f"eval_{wanted.removeprefix('eval_')}" not in metrics:
            names = sorted(name.removeprefix("eval_") for name in metrics if name != "epoch")
            raise UserError(
                f"--metric_for_best_model {wanted}: not measured; choose from {', '.join(names)}"
            )
        self._view = ""
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Name the view in what TRL has measured."""
        if self._view:
            measured: Any = self._metrics["eval"]  # type: ignore[attr-defined]
            named = {f"{self._view}_{name}": values for name, values in measured.items()}
            measured.clear()
            measured.update(named)
        super().log(logs, start_time)  # type: ignore[misc]
