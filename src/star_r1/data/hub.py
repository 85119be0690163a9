"""A finished dataset folder -> a dataset repository on the Hugging Face Hub, on demand only."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from star_r1.data.manifest import MANIFEST, read_manifest
from star_r1.errors import UserError


def create(repo: str) -> None:
    """See that there is a dataset repository ``repo`` that one may write; a new one is private.

    Called before the work, which takes hours, and not after it.

    Args:
        repo: such as ``me/pairs``.

    Raises:
        UserError: the name is not allowed, nobody is logged in, the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    with explained(repo):
        HfApi().create_repo(repo, repo_type="dataset", private=True, exist_ok=True)


def push(folder: Path, repo: str) -> str:
    """Upload the files of the manifest; shards of an earlier upload that it lacks are removed.

    Args:
        folder: a dataset with a manifest.
        repo: made by ``create``.

    Returns:
        The address of the commit.

    Raises:
        UserError: the upload failed; the same call goes on from what is there.
    """
    from huggingface_hub import HfApi

    files = read_manifest(folder).files
    with explained(repo):
        commit = HfApi().upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=[*files, MANIFEST],
            delete_patterns="data/*.parquet",
            commit_message="Upload by star-r1",
        )
    return str(commit.commit_url)


@contextmanager
def explained(repo: str) -> Iterator[None]:
    """Turn what the Hub's client raises about ``repo`` into one line.

    Raises:
        UserError: anything went wrong.
    """
    try:
        yield
    except Exception as error:  # the HTTP client's own, whose package changes with the version
        cause = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"--push-to-hub {repo}: {cause}; log in with 'hf auth login', then run the same "
            "command again: what is finished is kept"
        ) from None
