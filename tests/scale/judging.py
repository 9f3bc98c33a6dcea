"""What became of a job: its artifacts beside those of another run, and its results."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from artifacts import ArtifactStore
from artifacts.upkeep.verify import Verification
from flows.outcomes import SUMMARY
from stages.pipeline import STAGE_NAMES


def differences(store: ArtifactStore, whole: ArtifactStore) -> Iterator[str]:
    """Yield how a disturbed store differs from an undisturbed one, and what is damaged in it."""
    ours, theirs = contents(store), contents(whole)
    if ours != theirs:
        others = sum(ours.get(name) != theirs.get(name) for name in ours | theirs)
        yield f"{others} of {len(theirs)} artifacts have other bytes or are not there"
    records = store.backend.sizes("actions")
    second = [path for path in records if not path.endswith("/0001.json")]
    if second:
        yield f"{len(second)} records beyond the first of a key"
    yield from (str(found) for found in Verification(store) if found.trouble.is_damage)


def contents(store: ArtifactStore) -> dict[tuple[str, str], str]:
    """Return the digest of the bytes of each artifact, by stage and key."""
    return {
        (stage, record.key): record.object
        for stage in STAGE_NAMES
        for record in store.records_of(stage)
    }


def wrong_results(out: Path, edits: int) -> Iterator[str]:
    """Yield what is wrong with the results of a job of which every edit can be done."""
    rows = {row["id"]: row for row in map(json.loads, (out / "results.jsonl").open())}
    done = [row for row in rows.values() if row["status"] == "done"]
    if len(done) != edits:
        yield f"{len(done)} of {edits} edits are done by results.jsonl"
    lacking = [row["id"] for row in done if not (out / "images" / f"{row['id']}.png").exists()]
    if lacking:
        yield f"{len(lacking)} edits lack their picture, such as {lacking[0]}"
    page = (out / "index.html").read_text()
    if "goes on" in page or "of other workers" in page:
        yield "the page says that work goes on"


def summaries(location: Path | str) -> list[dict[str, Any]]:
    """Return what each run has said of itself at its end."""
    store = ArtifactStore.open(location)
    found = (store.get_run(run, SUMMARY) for run in store.runs(having=SUMMARY))
    return [json.loads(data) for data in found if data]
