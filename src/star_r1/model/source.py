"""What a model name stands for: full weights or a LoRA adapter on them, and whose processor."""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from huggingface_hub import snapshot_download, try_to_load_from_cache
from peft import LoraConfig
from transformers.utils import cached_file

from star_r1.errors import UserError

MINI: Final = "mini"

_ADAPTER: Final = "adapter_config.json"
_WEIGHTS: Final = ("adapter_model.safetensors", "adapter_model.bin")
_PROCESSORS: Final = ("processor_config.json", "preprocessor_config.json")
_TYPES: Final[dict[str, Any]] = {
    "r": int,
    "lora_alpha": (int, float),
    "target_modules": (str, list, type(None)),
}
"""Of what an adapter's configuration says; PEFT does not look."""


@dataclass(frozen=True)
class Source:
    """Where a model comes from.

    Attributes:
        name: as the user gives it.
        weights: folder or Hub name of the full weights; those below the adapter, if there is one.
        adapter: folder of the LoRA adapter, or None; one on the Hub lies in its cache.
        processor: folder or Hub name of the processor: the adapter's, or that of the full weights
            where it was saved without one, as PEFT does it.
    """

    name: str
    weights: str
    adapter: str | None
    processor: str

    @property
    def base(self) -> str:
        """The name of the full weights: ``mini``, a folder, or a Hub name."""
        if self.adapter is None:
            return self.name
        return MINI if _is_mini(self.weights) else self.weights

    def lora(self) -> LoraConfig:
        """The configuration of the adapter, read anew.

        Raises:
            UserError: it is not a LoRA adapter's.
        """
        assert self.adapter is not None
        config = _read_adapter(Path(self.adapter), self.name)
        for key, kinds in _TYPES.items():
            if not isinstance(config.get(key), kinds):
                raise UserError(f"adapter {self.name}: {key} is {config.get(key)!r} in {_ADAPTER}")
        try:
            return LoraConfig.from_pretrained(self.adapter)
        except (ValueError, TypeError) as error:
            said = " ".join(str(error).split())
            raise UserError(f"adapter {self.name}: {_ADAPTER}: {said}") from None


def find_model(name: str, fetch: bool = True) -> Source:
    """What ``name`` stands for; every command takes the same names.

    Args:
        name: a model folder, also a checkpoint within a run; the folder of a LoRA adapter; the Hub
            name of either; ``mini``, the embedded model.
        fetch: whether to ask the Hub for what is not in its cache. Without it an adapter that is
            not in there whole passes for full weights.

    Raises:
        UserError: it looks like a folder and is none; the adapter is broken, of another kind, or
            its base is missing; the embedded weights are absent.

    >>> find_model("mini").adapter is None
    True
    """
    path = resolve(name)
    adapter = _find_adapter(path, fetch)
    if adapter is None:
        return Source(name, path, None, path)
    config = _read_adapter(adapter, name)
    if Path(path, "config.json").is_file():  # full weights and an adapter on them in one folder
        weights = path
    else:
        weights = _find_base(name, str(config.get("base_model_name_or_path") or ""))
    own = any((adapter / file).is_file() for file in _PROCESSORS)
    return Source(name, weights, str(adapter), str(adapter) if own else weights)


def resolve(name: str) -> str:
    """The folder (its absolute path) or the Hub name that a model name stands for.

    Raises:
        UserError: it looks like a folder and is none, or the embedded weights are absent.
    """
    if name == MINI:
        weights = Path(str(files("star_r1.model") / "weights"))
        if not (weights / "model.safetensors").is_file():
            raise UserError(
                "the embedded weights are missing from this installation; make them with "
                "'star-r1 pretrain', or reinstall star-r1"
            )
        return str(weights)
    path = Path(name)
    if path.is_dir():
        if not any((path / file).is_file() for file in ("config.json", _ADAPTER)):
            checkpoints = sorted(path.glob("checkpoint-*"), key=lambda p: p.stat().st_mtime)
            hint = f"; give one of its checkpoints, such as {checkpoints[-1]}" * bool(checkpoints)
            raise UserError(f"{path}: no config.json, so not a model folder{hint}")
        return str(path.absolute())
    if not _is_hub_name(name):
        raise UserError(
            f"model {name!r}: no such folder; give a model folder, a Hub name "
            "such as Qwen/Qwen2.5-VL-7B-Instruct, or 'mini'; evaluate also takes endpoint:NAME"
        )
    return name


def find_file(path: str, name: str, fetch: bool) -> str | None:
    """A file of a model folder, or of a repository on the Hub; None where it is not there.

    Args:
        path: as ``resolve`` gives it.
        name: of the file.
        fetch: whether to ask the Hub for what is not in its cache.
    """
    if Path(path).is_dir():
        file = Path(path, name)
        return str(file) if file.is_file() else None
    if not fetch:
        found = try_to_load_from_cache(path, name)
        return found if isinstance(found, str) else None
    try:
        return cached_file(  # type: ignore[no-any-return]
            path,
            name,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except OSError:  # no such repository: who loads its weights says so
        return None


def _find_adapter(path: str, fetch: bool) -> Path | None:
    """The folder of an adapter, or None where ``path`` is none."""
    file = find_file(path, _ADAPTER, fetch)
    if file is None:
        return None
    if Path(path).is_dir():
        return Path(path)
    if fetch:
        return Path(snapshot_download(path, ignore_patterns="*/*"))
    return Path(file).parent if any(find_file(path, name, fetch) for name in _WEIGHTS) else None


def _is_hub_name(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith(("/", ".", "~"))


def _is_mini(path: str) -> bool:
    """Whether a path is that of the embedded weights, in this installation or in another."""
    return Path(path).parts[-3:] == ("star_r1", "model", "weights")


def _find_base(adapter: str, named: str) -> str:
    """The full weights below an adapter.

    Raises:
        UserError: they are not there, or are an adapter themselves.
    """
    where = f"adapter {adapter}"
    if not named:
        raise UserError(f"{where}: its {_ADAPTER} names no base_model_name_or_path")
    if Path(named).is_dir():
        if not Path(named, "config.json").is_file():
            raise UserError(f"{where}: its base {named} holds no config.json, so no full weights")
        return str(Path(named).absolute())
    if named == MINI or _is_mini(named):
        return resolve(MINI)
    if not _is_hub_name(named):
        raise UserError(
            f"{where}: its base model is missing: there is no folder {named}; move it back there, "
            f"or write its new place into base_model_name_or_path of {_ADAPTER}"
        )
    return named


def _read_adapter(folder: Path, adapter: str) -> dict[str, Any]:
    """``adapter_config.json``, of a LoRA adapter.

    Raises:
        UserError: it is broken, or that of another kind.
    """
    try:
        config = json.loads((folder / _ADAPTER).read_bytes())
    except ValueError as error:
        raise UserError(f"adapter {adapter}: its {_ADAPTER} is not JSON: {error}") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if not isinstance(kind, str):
        raise UserError(f"adapter {adapter}: its {_ADAPTER} names no peft_type")
    if kind != "LORA":
        raise UserError(f"adapter {adapter}: of type {kind}; only LoRA adapters are known here")
    return dict(config)
