"""Requests to object storage that fail.

Against an S3 server on loopback (moto's, which imitates S3), through a proxy that breaks one
request of a publish: it answers 409, 412, 500 or 503, or forwards the request and loses the reply.
For every k, the k-th request of the publish of each stage's payload. Then the store is read without
faults.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from real_results import Result, make_results
from support.report import Row, Stopwatch, on_seed
from support.s3_server import LOST, BadLine, s3_location, serve_s3

from artifacts import ArtifactStore, StoreUnavailable
from artifacts.upkeep.verify import Verification

FAULTS = (409, 412, 500, 503, LOST)


def rows(seed: int) -> Iterator[Row]:
    with TemporaryDirectory() as folder, on_seed("object storage", seed), serve_s3() as port:
        results = make_results(Path(folder), images=1, each=1)
        yield break_requests(results.of_each_stage, port)


def break_requests(results: list[Result], port: int) -> Row:
    """Break each request of each publish in each way."""
    clock, broken, told, problems = Stopwatch(), 0, 0, list[str]()
    line = BadLine(port)
    for result in results:
        for fault in FAULTS:
            for number in count():
                place = f"{result.record.stage}-{fault}-{number}"
                ArtifactStore.open(s3_location(port, place))  # written without faults
                store = ArtifactStore.open(s3_location(line.server_port, place))
                struck = strike(line, number, fault)
                record = result.record
                try:
                    store.publish(record.action, result.payload, record.circumstances)
                except StoreUnavailable:
                    told += 1
                line.fault = lambda _method, _path: None
                if not struck:
                    break
                broken += 1
                problems += wrong(ArtifactStore.open(s3_location(port, place)), result, place)
    line.shutdown()
    line.server_close()
    return Row(
        "one request of a publish to S3 fails, for every request",
        "nothing wrong served, one record, made by the publish or by the next one",
        f"{broken} requests broken, {told} publishes refused with one error; "
        f"{len(problems)} problems",
        not problems and broken > 0,
        clock.seconds,
        "; ".join(problems[:5]),
    )


def strike(line: BadLine, number: int, fault: int | str) -> list[str]:
    """Break the request of a number; return a list that gets the broken request."""
    seen, struck = count(), list[str]()

    def break_one(method: str, path: str) -> int | str | None:
        if next(seen) != number:
            return None
        struck.append(f"{method} {path}")
        return fault

    line.fault = break_one
    return struck


def wrong(store: ArtifactStore, result: Result, place: str) -> Iterator[str]:
    """Yield what is wrong in a store after a broken publish, and after repeating it."""
    record = result.record
    found = store.lookup(record.stage, record.key)
    if found and found.status == "hit":
        store.read(found.record)
    again = store.publish(record.action, result.payload, record.circumstances)
    if (again.object, again.number) != (record.object, 1):
        yield f"{place}: record {again.number} of object {again.object}"
    store.read(again)
    for finding in Verification(store):
        if finding.trouble.is_damage:
            yield f"{place}: {finding}"
