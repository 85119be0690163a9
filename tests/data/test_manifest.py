import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq

from star_r1.data.manifest import write_manifest


def test_every_file_is_described(rendered: Path) -> None:
    manifest = json.loads((rendered / "manifest.json").read_bytes())
    assert manifest["settings"] == json.loads((rendered / "generate.json").read_bytes())
    names = {path.relative_to(rendered).as_posix() for path in rendered.glob("data/*")}
    assert set(manifest["files"]) == {"README.md", "generate.json", *names}
    for name, described in manifest["files"].items():
        data = (rendered / name).read_bytes()
        assert described["bytes"] == len(data)
        assert described["sha256"] == hashlib.sha256(data).hexdigest()
        if name in names:
            assert described["rows"] == pq.read_metadata(rendered / name).num_rows


def test_temporary_files_are_not_in_it(copy: Path) -> None:
    before = (copy / "manifest.json").read_bytes()
    (copy / "data" / ".train-00000-of-00003.parquet.00c0ffee.tmp").write_text("half of it")
    write_manifest(copy, json.loads(before)["settings"])
    assert (copy / "manifest.json").read_bytes() == before
