"""A trained model -> a model repository on the Hugging Face Hub, with ``--push_to_hub`` only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from star_r1.data.hub import explained

CARD = "README.md"


def create(args: Any) -> str:
    """See that there is a repository that one may write; a new one is private unless told so.

    Called before the training, which takes hours, and not after it.

    Args:
        args: TRL's; ``hub_model_id`` (else the name of ``output_dir``), ``hub_token``,
            ``hub_private_repo``.

    Returns:
        Its full name, such as ``me/star``.

    Raises:
        UserError: the name is not allowed, nobody is logged in, the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    repo = args.hub_model_id or Path(args.output_dir).resolve().name
    private = True if args.hub_private_repo is None else args.hub_private_repo
    with explained(repo):
        made = HfApi(token=args.hub_token).create_repo(repo, private=private, exist_ok=True)
    return str(made.repo_id)


def push(folder: Path, files: Sequence[str], repo: str, args: Any) -> str:
    """Upload the exported files and the card in one commit; weights of an earlier one are removed.

    Args:
        folder: of the run.
        files: what ``run.export`` wrote into it.
        repo: from ``create``.
        args: TRL's; ``hub_token``, ``hub_revision``.

    Returns:
        The address of the commit.

    Raises:
        UserError: the upload failed; the same command tries it again.
    """
    from huggingface_hub import HfApi

    with explained(repo):
        commit = HfApi(token=args.hub_token).upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=[*files, CARD],
            delete_patterns="*.safetensors*",
            revision=args.hub_revision,
            commit_message="Upload by star-r1",
        )
    return str(commit.commit_url)
