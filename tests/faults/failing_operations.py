"""The k-th operation of a store fails, for every k of a publish.

The payload of each stage, on a store in memory. The store goes away at the k-th request, or fails
once, before the request is done or before its reply arrives. The writer finds nothing, an older
result that it supersedes, or damage to its own bytes. After each failure every hit is read, and the
publish is repeated.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from real_results import Result, make_results
from support.report import Row, Stopwatch, on_seed
from support.store_faults import SCENES, WAYS, publish_failing_everywhere


def rows(seed: int) -> Iterator[Row]:
    with TemporaryDirectory() as folder, on_seed("failing operations", seed):
        results = make_results(Path(folder), images=2, each=1)
        yield fail_everywhere(results.of_each_stage, results.all[::-1])


def fail_everywhere(results: list[Result], others: tuple[Result, ...]) -> Row:
    """Fail every request of every publish; `others` holds older results of the same stages."""
    clock, failures, broken = Stopwatch(), 0, list[str]()
    for result in results:
        record = result.record
        older = next(o for o in others if o.record.stage == record.stage)
        for scene in SCENES:
            for way in WAYS:
                found = publish_failing_everywhere(
                    record.action, older.payload, result.payload, record.circumstances, way, scene
                )
                failures += found[0]
                broken += [f"{record.stage}: {problem}" for problem in found[1]]
    return Row(
        "the k-th store operation fails, for every k of a publish",
        "0 invariants broken",
        f"{failures} failures over {len(results)} stages' payloads, {len(WAYS)} ways and "
        f"{len(SCENES)} scenes: {len(broken)} invariants broken",
        not broken and failures > 0,
        clock.seconds,
        "; ".join(broken[:5]),
    )
