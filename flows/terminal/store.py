"""Housekeeping: verify, collect, measure, export and import stores."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

from rich.filesize import decimal

from artifacts import ArtifactStore, Key
from artifacts.upkeep.collect import Candidate, Plan, Policy, collect, plan_collection
from artifacts.upkeep.transfer import Outcome, Transferred, transfer
from artifacts.upkeep.usage import Amount, Usage, measure_usage
from artifacts.upkeep.verify import Verification
from flows.outcomes import ALL_DONE, SOME_FAILED, InvalidRequest
from flows.terminal.arguments import parse_size
from flows.terminal.console import say, say_list, say_table
from flows.terminal.errors import say_error
from flows.terminal.jobs import load
from flows.time_limits import seconds_of
from stages.jobs.edit import Job
from stages.planning.housekeeping import KNOWN_STAGES, JobActions, all_actions, job_actions
from stages.reports.wording import Table, count


def verify(location: str) -> int:
    """Print each finding as it comes, and count them."""
    checked = Verification(ArtifactStore.open(location, create=False), KNOWN_STAGES)
    for finding in checked:
        say(str(finding))
    counts = checked.counts
    amounts = (count(counts.records, "record"), count(counts.objects, "object"))
    say(
        f"{', '.join(amounts)}, {count(counts.files, 'file')} ({decimal(counts.bytes)}) checked: "
        f"{counts.damage} damaged, {count(counts.notes, 'note')}"
    )
    return SOME_FAILED if counts.damage else ALL_DONE


def collect_garbage(
    keep: Sequence[Path],
    older_than: str | None,
    at_most: str | None,
    grace: str,
    location: str,
    forget: bool,
    dry_run: bool,
) -> None:
    """Delete what may go, or print it."""
    policy = Policy(
        older_than=_time("--older-than", older_than) if older_than else None,
        at_most=parse_size("--at-most", at_most) if at_most else None,
        forget=forget,
    )
    wait = _time("--grace", grace)
    store = ArtifactStore.open(location, create=False)
    if keep:
        policy = replace(policy, keep=_kept_keys(keep, store))
    if dry_run:
        plan = plan_collection(store, policy, wait)
        say_list("Would go", [_candidate_line(each) for each in plan.candidates])
        say(f"Would go: {_amount(plan.candidates)}")
        _say_recent(plan)
    else:
        collected = collect(store, policy, wait)
        say(f"Deleted: {_amount(collected.removed)}")
        if collected.spared:
            say(f"Used again just now, so not deleted: {_amount(collected.spared)}")
        _say_recent(collected.plan)


def _time(option: str, text: str) -> timedelta:
    return timedelta(seconds=seconds_of(option, text, allow_zero=True))


def _kept_keys(jobs: Sequence[Path], store: ArtifactStore) -> frozenset[Key]:
    """Return the keys of jobs' results; refuse where it is not certain which those are."""
    keys: set[Key] = set()
    is_any_made = False
    for path in jobs:
        job = load(path)
        if job.bad:
            raise InvalidRequest(
                f"--keep {path}: the results of {job.bad[0].id} cannot be found and would go: "
                f"correct or remove the edit ({job.bad[0].reason})"
            )
        found = job_actions(job.edits, store)
        keys |= found.keys
        is_any_made |= bool(found.made)
    if not is_any_made:
        names = ", ".join(map(str, jobs))
        raise InvalidRequest(f"--keep {names}: {store.location} has no results of it; all would go")
    return frozenset(keys)


def _candidate_line(candidate: Candidate) -> str:
    size = decimal(candidate.size)
    return f"{candidate.kind.value} {candidate.path}: {size}, {candidate.reason}"


def _say_recent(plan: Plan) -> None:
    if plan.recent:
        say(f"Too recent to delete (see --grace): {_amount(plan.recent)}")


def _amount(candidates: Sequence[Candidate]) -> str:
    """Count candidates by kind, with their bytes."""
    if not candidates:
        return "nothing"
    kinds = Counter(candidate.kind.value for candidate in candidates)
    counts = ", ".join(count(number, kind) for kind, number in kinds.items())
    return f"{counts}, {decimal(sum(candidate.size for candidate in candidates))}"


def show_usage(paths: Sequence[Path], location: str, *, as_json: bool) -> None:
    """Print how much a store holds, by stage and by job."""
    store = ArtifactStore.open(location, create=False)
    jobs = {str(path): _job_and_actions(path, store)[1].keys for path in paths}
    usage = measure_usage(store, jobs)
    if as_json:
        say(json.dumps({"store": store.location, **asdict(usage)}, indent=2))
    else:
        _say_usage(usage)


def _say_usage(usage: Usage) -> None:
    say_table(_amounts_table("stage", {**usage.stages, "all stages": usage.total}))
    if usage.jobs:
        say("")
        say_table(_amounts_table("job", usage.jobs))
    say("")
    others = {"superseded or without record": usage.unnamed.size, **usage.beside}
    say_table(Table(["other", "size"], [[name, decimal(size)] for name, size in others.items()]))
    say(f"Total: {decimal(usage.total.size + sum(others.values()))}")


def _amounts_table(title: str, amounts: Mapping[str, Amount]) -> Table:
    rows = []
    for name, amount in amounts.items():
        counts = map(str, (amount.actions, amount.known, amount.objects))
        rows.append([name, *counts, decimal(amount.size), decimal(amount.own)])
    return Table([title, "actions", "without bytes", "objects", "size", "not shared"], rows)


def export_job(path: Path, target: str, location: str) -> int:
    """Copy what a job's results are made of to another store."""
    store = ArtifactStore.open(location, create=False)
    job, actions = _job_and_actions(path, store)
    if not actions.made:
        raise InvalidRequest(f"{store.location} has no results of {path}: run it first")
    code = _say_transferred(transfer(store, ArtifactStore.open(target), actions.made))
    return SOME_FAILED if job.bad else code


def import_store(source: str, location: str) -> int:
    """Copy everything from another store."""
    opened = ArtifactStore.open(source, create=False)
    return _say_transferred(transfer(opened, ArtifactStore.open(location), all_actions(opened)))


def _job_and_actions(path: Path, store: ArtifactStore) -> tuple[Job, JobActions]:
    """Find what a job's results are made of in a store; report edits that cannot be read."""
    job = load(path)
    for bad in job.bad:
        say_error(f"{path}: {bad}")
    return job, job_actions(job.edits, store)


def _say_transferred(transferred: Iterable[Transferred]) -> int:
    """Print failures as they come, then counts; return the exit code."""
    counts, size = Counter[Outcome](), 0
    for each in transferred:
        counts[each.outcome] += 1
        size += each.size
        if each.outcome.is_failure:
            say(f"{each.stage} {each.key}: {each.outcome.value}: {each.reason}")
    failed = sum(number for outcome, number in counts.items() if outcome.is_failure)
    say(
        f"{counts[Outcome.COPIED]} copied ({decimal(size)}), {counts[Outcome.THERE]} there, "
        f"{counts[Outcome.KNOWN]} without bytes, {failed} failed"
    )
    return SOME_FAILED if failed else ALL_DONE
