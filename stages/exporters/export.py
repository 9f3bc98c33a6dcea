"""Takes the finished edits of a job away, shard by shard."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

from adaptivedrag.errors import InvalidEdit
from artifacts import ArtifactStore
from artifacts.places.parallel import at_once
from stages.evaluate import Judged
from stages.exporters.formats import FORMATS, Format, Shard
from stages.exporters.sample import Known, Lost, Sample, why_not
from stages.exporters.target import AGAIN, Digests, Limit, Target, Terms
from stages.jobs.edit import Job
from stages.jobs.votes import Vote
from stages.pipeline import RESULT
from stages.planning.plan import EditPlan, plan_edits

Read: TypeAlias = tuple[Known, Sample | Lost]

_THREADS = 2
_NAMED = 5


@dataclass(frozen=True)
class Exported:
    """What came of an export.

    Attributes:
        edits: how many are in the folder.
        size: of all shards, in bytes.
        shards: how many there are; `written` of them were written just now.
        left_out: why an edit is not there, by its id.
    """

    edits: int
    size: int
    shards: int
    written: int
    left_out: Mapping[str, str]


def export_job(
    job: Job,
    store: ArtifactStore,
    folder: Path,
    format_name: str,
    *,
    limit: Limit,
    votes: Mapping[str, Vote],
    on_edit: Callable[[int, int], None] = lambda _written, _edits: None,
) -> Exported:
    """Write the finished edits of a job to a folder, go on with that, or check what is there.

    A shard is written once. An export that was interrupted goes on behind its last whole shard, and
    ends with the bytes that it would have had; a finished one is only checked.

    Args:
        format_name: a key of `FORMATS`.
        votes: by the ids of edits.
        on_edit: called after each edit with how many are over and how many there are.

    Raises:
        InvalidEdit: if there is nothing to take away, the folder holds something else, or results
            have changed since it was written.
        ReportUnwritable: if the folder cannot be written; whole shards are kept.
        StoreUnavailable: if the store cannot be read.
    """
    form = FORMATS[format_name]
    begin = form.opener()
    plans = plan_edits(job.edits, store)
    left_out = {plan.edit.id: why for plan in plans if (why := why_not(plan))}
    ready = [plan for plan in plans if plan.edit.id not in left_out]
    if not ready:
        raise InvalidEdit(_nothing(job, left_out))
    with Target.open(folder, Terms(job.name, format_name, limit)) as target:
        kept = len(target.shards)
        lost = dict.fromkeys(target.left_out, "it was lost when its shard was written")
        writer = _Writer(target, form, limit, begin)
        unwritten = _unwritten(target, _known(ready, store, votes))
        reads = at_once(partial(_read, store), unwritten, _THREADS)
        over = len(target.edits) + len(target.left_out)
        for number, (known, read) in enumerate(reads, start=over + 1):
            if isinstance(read, Lost):
                lost[known.name] = str(read)
            writer.take(known, read)
            on_edit(number, len(ready))
        writer.end_shard()
        if not target.shards:
            raise InvalidEdit(_nothing(job, lost))
        target.settle()
    return Exported(
        edits=len(target.edits),
        size=sum(shard.size for shard in target.shards),
        shards=len(target.shards),
        written=len(target.shards) - kept,
        left_out=lost | left_out,
    )


def _nothing(job: Job, left_out: Mapping[str, str]) -> str:
    name, why = next(iter(left_out.items()), ("", "no edit can be done as it is written"))
    return f"nothing of {job.path} can be taken away: {name}{': ' * bool(name)}{why}"


def _known(
    plans: Sequence[EditPlan], store: ArtifactStore, votes: Mapping[str, Vote]
) -> Iterator[Known]:
    found = (plan.stages[RESULT.name].found for plan in plans)
    judged = Judged.of_results(store, {each.logical for each in found if each})
    for plan in plans:
        yield Known.of(plan, votes.get(plan.edit.id, Vote()), judged)


def _read(store: ArtifactStore, known: Known) -> Read:
    try:
        return known, known.read(store)
    except Lost as lost:
        return known, lost


def _unwritten(target: Target, known: Iterable[Known]) -> Iterator[Known]:
    """Yield what is not written yet, which is everything behind what is.

    Raises:
        InvalidEdit: if what is written is not what there is now.
    """
    written, lost, differences = target.edits, target.left_out, list[str]()
    for each in known:
        if each.name in written:
            before = written.pop(each.name)
            changed = [part for part, digest in each.digests.items() if before[part] != digest]
            differences += [f"{each.name} has another {' and '.join(changed)}"] * bool(changed)
        elif written or target.is_finished:
            differences += [f"{each.name} is new"] * (each.name not in lost)
        else:
            _refuse(target, differences)
            yield each
    _refuse(target, [*differences, *(f"{name} is no longer there" for name in written)])


def _refuse(target: Target, differences: Sequence[str]) -> None:
    if differences:
        more = f", and {len(differences) - _NAMED} more" if len(differences) > _NAMED else ""
        named = ", ".join(differences[:_NAMED]) + more
        raise InvalidEdit(f"{target.folder} was written of other results: {named}: {AGAIN}")


@dataclass
class _Writer:
    """Writes samples into shards, one shard at a time.

    Attributes:
        edits, lost, size: what the shard that is being written holds.
    """

    target: Target
    form: Format
    limit: Limit
    begin: Callable[[Path], Shard]
    edits: dict[str, Digests] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    size: int = 0
    _shard: Shard | None = None

    def take(self, known: Known, read: Sample | Lost) -> None:
        """Write a sample, in the next shard if this one would be too large."""
        if isinstance(read, Lost):
            self.lost.append(known.name)
            return
        size = self.form.OVERHEAD + read.size
        if self.edits and not self.limit.allows(len(self.edits) + 1, self.size + size):
            self.end_shard()
        if self._shard is None:
            self._shard = self.begin(self.target.unfinished)
        self._shard.add(read)
        self.edits[known.name] = known.digests
        self.size += size

    def end_shard(self) -> None:
        """Finish the shard, if one is begun."""
        if self._shard is not None:
            self._shard.close()
            self.target.add(self.form.SUFFIX, self.edits, self.lost)
        self.edits, self.lost, self.size, self._shard = {}, [], 0, None
