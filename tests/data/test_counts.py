import json

from star_r1.data.counts import count


def row(
    name: str, view: str, places: list[tuple[int, int]], *changes: tuple[int, str, str]
) -> dict:
    objects = [{"index": i, "position": place} for i, place in enumerate(places)]
    keys = ("index", "attribute", "value")
    listed = [dict(zip(keys, change, strict=True)) for change in changes]
    return {
        "id": f"{name}-{view}",
        "view": view,
        "initial": json.dumps(objects),
        "changes": json.dumps(listed),
    }


def test_rows_of_one_sample_count_once() -> None:
    places = [(0, 0), (20, -20), (21, 0), (-30, 35)]
    moves = [
        (0, "position", "behind.1"),  # to (10, 0)
        (2, "position", "front.1"),  # in, to (11, 0)
        (2, "position", "behind.1"),  # back out
        (1, "color", "red"),
    ]
    rows = [row("a-0", view, places, *moves) for view in ("center", "az90")]
    rows.append(row("a-1", "center", places, (1, "color", "red")))
    counts = count(iter(rows))
    assert (counts.rows, counts.samples) == (3, 2)
    assert counts.tables() == {
        "rows by view": {"center": 2, "az90": 1},
        "samples by visible objects": {2: 2},
        "samples by changes": {1: 1, 4: 1},
        "changes by attribute": {"position": 3, "color": 2},
        "changes by new value": {"color.red": 2, "position.behind.1": 2, "position.front.1": 1},
        "changes by object": {0: 1, 1: 2, 2: 2},
        "moves by type": {"in": 1, "inner": 1, "out": 1},
    }
