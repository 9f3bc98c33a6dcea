"""The command line. Help and plans answer at once: nothing heavy is imported before it is needed.

Exit codes: 0 all done, 1 any edit failed, 2 nothing could start, 3 stopped early, 130 interrupted.
"""

import atexit
import gc
import io
import json
import re
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from datetime import timedelta

    from rich.console import Console

    from adaptivedrag.points import Drag
    from artifacts import ArtifactStore, Key, Record
    from artifacts.upkeep.collect import Candidate, Policy
    from artifacts.upkeep.transfer import Transferred
    from artifacts.upkeep.usage import Amount, Usage
    from flows.evaluation.judging import Evaluated
    from flows.outcomes import RunSummary
    from stages.jobs.edit import Edit, Job
    from stages.jobs.importers import Imported
    from stages.jobs.spec import JobSpec
    from stages.planning.housekeeping import Collected, JobActions
    from stages.planning.plan import EditPlan
    from stages.reports.score_tables import Evaluation

ALL_DONE, SOME_FAILED, NOT_STARTED, STOPPED_EARLY, INTERRUPTED = 0, 1, 2, 3, 130
EDITS_SHOWN = 10

_DRAG = re.compile(r"\s*{n}\s*,\s*{n}\s*(?:->|→)\s*{n}\s*,\s*{n}\s*".format(n=r"(-?\d+(?:\.\d+)?)"))
_DURATION = re.compile(r"([0-9]{1,5})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(?:([kMGT])(i?))?B", re.IGNORECASE)


class Commands(TyperGroup):
    """Turns the errors that we raise on purpose into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        # At its end Python searches all that there is for garbage: after a plan of ten thousand
        # edits as long as all imports take, and for nothing.
        atexit.register(gc.freeze)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _fail("interrupted; what was finished is kept", INTERRUPTED)
        except Exception as error:
            _fail_if_ours(error)
            raise


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help, in half the time
    help="Drag what is in an image to where it should be: AdaptiveDrag, for many images at once.",
)
importing = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Write a job for a public benchmark."
)
app.add_typer(importing, name="import")


class JobOrAblation(TyperGroup):
    """Takes `eval JOB` for `eval job JOB`: what is evaluated is mostly a job."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments."""
        named = args[:1] and args[0] in (*self.commands, "--help")
        return list(super().parse_args(ctx, args if named else ["job", *args]))


evaluating = typer.Typer(
    cls=JobOrAblation,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure a job, or run the ablation.",
)
app.add_typer(evaluating, name="eval")
housekeeping = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Check, count, move or collect results."
)
app.add_typer(housekeeping, name="store")

JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="Job file, such as job.toml.")]
StorePlace = Annotated[
    str, typer.Option("--store", metavar="PATH", help="Where artifacts are kept: a folder or URL.")
]
Only = Annotated[str | None, typer.Option(metavar="STAGE", help="Run this stage only.")]
FromStage = Annotated[
    str | None, typer.Option("--from", metavar="STAGE", help="Run this stage and later ones.")
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Only edits that failed or are quarantined.")
]
Select = Annotated[
    str | None,
    typer.Option(metavar="PATTERN", help="Only edits with such an id (* and ?), or with this tag."),
]
Device = Annotated[str, typer.Option(help='Where models run: "cpu", "cuda", "cuda:1".')]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the results.")]
StageTimeout = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="An edit fails whose stage takes longer than 20m or 90s."),
]
Dift = Annotated[
    str | None,
    typer.Option(
        "--dift",
        metavar="MODEL",
        help="Model whose features MD compares: Stable Diffusion 2.1 for photographs; "
        "by default the pocket model, for scenes only.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
STORE = "./.adaptivedrag"


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"adaptivedrag {version('adaptivedrag')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """Options of all commands."""
    for stream in (sys.stdout, sys.stderr):
        # File names need not be text.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@app.command()
def demo(out: Out = None, store: StorePlace = STORE, device: Device = "cpu") -> None:
    """Edit six rendered scenes, truth beside."""
    from stages.jobs.demo import write_demo
    from stages.jobs.reader import load_job
    from stages.reports.report import writing

    out = out or Path("results/demo")
    with writing(out):
        written = write_demo(out / "inputs")
    job = load_job(written.path)
    summary = _run(job, store_location=store, out=out, device=device)
    if summary.exit_code in (ALL_DONE, SOME_FAILED):
        with writing(out):
            panels = _write_panels(job, store, out / "panels", written.truths)
        _say(f"Before, mask, paths, result and truth of each edit: {panels}")
    _end(summary)


@app.command()
def edit(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Image to edit.")],
    drag: Annotated[
        list[str],
        typer.Option(metavar="X,Y->X,Y", help="Handle and target in pixels; may be repeated."),
    ],
    prompt: Annotated[str, typer.Option(help="What the image shows.")] = "",
    mask: Annotated[
        Path | None, typer.Option(help="Image of the same size: not black where it may change.")
    ] = None,
    model: Annotated[
        str, typer.Option(help='"pocket", a Stable Diffusion 1.x directory, or a hub id.')
    ] = "pocket",
    segmenter: Annotated[
        str, typer.Option(help='"pocket", a SAM 2 checkpoint, or a hub id.')
    ] = "pocket",
    preset: Annotated[
        str, typer.Option(help='"plus", "paper", "released" or "dragdiffusion".')
    ] = "plus",
    lora: Annotated[str, typer.Option(help='"train", "off", or a .safetensors file.')] = "train",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting, such as optimize_latent.steps=40."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="PNG to write; by default results/<image>.png."),
    ] = None,
    store: StorePlace = STORE,
    device: Device = "cpu",
) -> None:
    """Edit one image."""
    from stages.jobs.reader import single_edit

    named = {"model": model, "segmenter": segmenter, "preset": preset, "lora": lora}
    drags = [_parse_drag(text) for text in drag]
    spec = _spec(named, settings or [])
    job = single_edit(image, drags, prompt=prompt, mask=mask, spec=spec)
    target = _picture_path(out or Path("results") / f"{image.stem}.png", image)
    _say_conversions(job)
    _say_what_pocket_is(job)
    raise typer.Exit(_edit_one(job.edits[0], store, target, device))


@app.command()
def run(
    job: JobFile,
    only: Only = None,
    from_stage: FromStage = None,
    select: Select = None,
    retry_failed: RetryFailed = False,
    max_failures: Annotated[
        str | None,
        typer.Option(metavar="N|N%", help="Stop once more edits than this have failed."),
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first failure.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Do again what is there; with --from, of that stage, and later ones where bytes "
            "have changed.",
        ),
    ] = False,
    stage_timeout: StageTimeout = None,
    deadline: Annotated[
        str | None,
        typer.Option(metavar="HH:MM", help="Stop at this time of day, after the current step."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Stop after 6h, 90m or 1h30m, after the current step."),
    ] = None,
    store: StorePlace = STORE,
    out: Out = None,
    device: Device = "cpu",
) -> None:
    """Do what is missing of a job."""
    loaded = _load(job)
    summary = _run(
        loaded,
        store_location=store,
        out=out or Path("results") / loaded.name,
        only=only,
        from_stage=from_stage,
        select=select,
        retry_failed=retry_failed,
        max_failures=max_failures,
        fail_fast=fail_fast,
        force=force,
        stage_timeout=_timeout(stage_timeout),
        deadline=deadline,
        budget=budget,
        device=device,
    )
    _end(summary)


@app.command()
def plan(
    job: JobFile,
    stage: Annotated[
        str | None, typer.Argument(metavar="[STAGE]", help="With --why: only this stage.")
    ] = None,
    select: Select = None,
    why: Annotated[
        str | None,
        typer.Option(
            metavar="EDIT", help="Say of an edit what differs from before, down to the roots."
        ),
    ] = None,
    edits: Annotated[bool, typer.Option("--edits", help="One line for each edit.")] = False,
    as_json: AsJson = False,
    store: StorePlace = STORE,
    device: Device = "cpu",
) -> None:
    """Say what is missing of a job, why, and what it will take."""
    from stages.planning.forecast import forecast
    from stages.planning.plan import plan_job
    from stages.reports import plan_tables as plan_report

    _check_why(why, stage)
    loaded, opened = _load(job, select), _open_to_read(store)
    if why:
        _explain(_edit_of(loaded, why), stage, opened, as_json=as_json)
        return
    planned = plan_job(loaded, opened, explain=True)
    told = forecast(planned, opened, device)
    if as_json:
        typer.echo(json.dumps(plan_report.plan_document(planned, told, opened), indent=2))
    else:
        _console().print(plan_report.plan_table(planned, told))
        lines = [*plan_report.forecast_lines(told)]
        lines += [*plan_report.edit_lines(planned)] if edits else []
        for line in [*lines, *plan_report.reason_lines(planned)]:
            _say(line)
        _say_if_absent(opened)
        _print_bad(loaded)
    raise typer.Exit(SOME_FAILED if loaded.bad else ALL_DONE)


@app.command()
def status(
    job: JobFile,
    name: Annotated[
        str | None, typer.Argument(metavar="[EDIT]", help="Print how this edit failed, in full.")
    ] = None,
    select: Select = None,
    store: StorePlace = STORE,
) -> None:
    """Say how far a job is, and what failed."""
    from stages.planning.plan import plan_job
    from stages.reports.plan_tables import counts_table

    loaded = _load(job, select)
    opened = _open_to_read(store)
    if name is not None:
        return _print_attempts(_edit_of(loaded, name), opened)
    planned = plan_job(loaded, opened)
    failures = [line for each in planned.edits if (line := _failure_line(each, job))]
    done = sum(edit.done for edit in planned.edits)
    total = len(planned.edits) + len(loaded.bad)
    _say(f"{loaded.name}: {done} of {total} edits done, {len(failures) + len(loaded.bad)} failed")
    _console().print(counts_table(planned))
    _say_if_absent(opened)
    _print_lines("Failed", failures)
    _print_bad(loaded)
    return None


@app.command()
def show(
    job: JobFile,
    name: Annotated[str, typer.Argument(metavar="EDIT", help="Id of an edit of the job.")],
    out: Out = None,
    store: StorePlace = STORE,
    view: Annotated[bool, typer.Option("--open", help="Open the panel in a viewer.")] = False,
    origins: Annotated[
        bool,
        typer.Option(
            "--provenance",
            help="Say what each artifact is made of instead: inputs, settings, code.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the provenance as JSON.")] = False,
) -> None:
    """Show what each stage made of an edit."""
    from stages.planning.plan import plan_edits
    from stages.reports.panel import write_panel
    from stages.reports.plan_tables import stages_table
    from stages.reports.report import writing

    loaded = _load(job)
    wanted = _edit_of(loaded, name)
    opened = _open_to_read(store)
    if origins or as_json:
        _print_provenance(wanted, opened, as_json=as_json)
        return
    (planned,) = plan_edits([wanted], opened, explain=True)
    _say(f"{wanted.id}: {wanted.image_path}")
    _console().print(stages_table(planned))
    folder = (out or Path("results") / loaded.name) / "panels"
    with writing(folder):
        panel = write_panel(wanted, opened, folder / f"{wanted.id}.png")
    _say(f"Panel: {panel}")
    if view:
        typer.launch(str(panel))


@importing.command("dragbench")
def import_dragbench(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the benchmark.")],
    out: Out = None,
) -> None:
    """DragBench: folders with original_image.png and meta_data.pkl."""
    from stages.jobs import importers

    _say_imported(importers.import_dragbench(directory, out))


@importing.command("drag100")
def import_drag100(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the benchmark.")],
    out: Out = None,
) -> None:
    """Drag100: folders with original.jpg, points.json and mask.png."""
    from stages.jobs import importers

    _say_imported(importers.import_drag100(directory, out))


@importing.command("dragscenes")
def import_dragscenes(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write.")],
    edits: Annotated[int, typer.Option(min=1, help="How many drags, of all kinds.")] = 100,
    scenes: Annotated[
        int, typer.Option(min=1, max=1000, help="Over how many scenes they are spread.")
    ] = 25,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="The fixed 40 drags of the ablation.")
    ] = False,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 256,
) -> None:
    """DragScenes: rendered here, with true masks and known true results."""
    from stages.jobs import importers

    chosen = importers.dragscenes(None if ablation else edits, scenes)
    _say_imported(importers.import_dragscenes(directory, chosen, size=size))


@evaluating.command("job")
def eval_job(
    job: JobFile,
    against: Annotated[
        Path | None, typer.Option(metavar="OTHER", help="Job to compare with, on the same edits.")
    ] = None,
    select: Select = None,
    out: Out = None,
    dift: Dift = None,
    store: StorePlace = STORE,
    device: Device = "cpu",
) -> None:
    """Measure the results of a job."""
    from flows.evaluation.judging import evaluate_job
    from stages.jobs.reader import load_job

    loaded = _load(job, select)
    evaluated = evaluate_job(
        loaded,
        store_location=store,
        against=load_job(against, select=select) if against else None,
        out=out or Path("results") / loaded.name / "evaluation",
        dift=dift,
        device=device,
        console=_console(),
    )
    _end_evaluation(evaluated)


@evaluating.command("ablation")
def eval_ablation(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Dataset: a folder with a job.toml.")
    ],
    preset: Annotated[str, typer.Option(help="Method whose modules are switched off.")] = "paper",
    only: Annotated[
        str | None, typer.Option(metavar="ROW,...", help="Only these rows of the table.")
    ] = None,
    finished: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="CSVs of rows that were measured before; not run again."),
    ] = None,
    out: Out = None,
    dift: Dift = None,
    store: StorePlace = STORE,
    device: Device = "cpu",
) -> None:
    """Run and measure the baselines and each module on and off."""
    from flows.evaluation.judging import evaluate_ablation

    evaluated = evaluate_ablation(
        directory,
        preset=preset,
        only=[name.strip() for name in only.split(",")] if only else (),
        finished=finished,
        store_location=store,
        out=out or Path("results") / f"ablation-{preset}",
        dift=dift,
        device=device,
        console=_console(),
    )
    _end_evaluation(evaluated)


@housekeeping.command("verify")
def store_verify(store: StorePlace = STORE) -> None:
    """Read every byte, and name what is damaged."""
    from rich.filesize import decimal

    from artifacts.upkeep.verify import Verification
    from stages.planning.housekeeping import KNOWN_STAGES

    checked = Verification(_open(store, create=False), KNOWN_STAGES)
    for finding in checked:
        _say(str(finding))
    counts = checked.counts
    _say(
        f"{counts.records} records, {counts.objects} objects, {counts.files} files "
        f"({decimal(counts.bytes)}) checked: {counts.damage} damaged, {counts.notes} notes"
    )
    raise typer.Exit(SOME_FAILED if counts.damage else ALL_DONE)


@housekeeping.command("gc")
def store_gc(
    keep: Annotated[
        list[Path] | None,
        typer.Option(metavar="JOB", help="All but the results of such jobs; may be repeated."),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only what no run wrote or used for 30d, 12h or 2w."),
    ] = None,
    at_most: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="The oldest results, until 50GB or 64GiB are left."),
    ] = None,
    grace: Annotated[
        str, typer.Option(metavar="TIME", help="From marking to deleting; longer than any write.")
    ] = "1h",
    forget: Annotated[
        bool, typer.Option("--forget", help="The records too: what follows is not known any more.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and mark nothing.")
    ] = False,
    store: StorePlace = STORE,
) -> None:
    """Delete what was marked, and mark what may go.

    Without --keep, --older-than or --at-most only what nobody can ask for goes; of these, all
    that are given must hold.
    """
    from artifacts.upkeep.collect import Policy, plan_collection
    from stages.planning.housekeeping import collect

    policy = Policy(
        older_than=_parse_duration("--older-than", older_than) if older_than else None,
        at_most=_parse_size("--at-most", at_most) if at_most else None,
        forget=forget,
    )
    wait = _parse_duration("--grace", grace)
    opened = _open(store, create=False)
    policy = _keeping(keep or [], policy, opened)
    if dry_run:
        _print_candidates("Would go", plan_collection(opened, policy).candidates)
    else:
        _print_collected(collect(opened, policy, wait))


@housekeeping.command("du")
def store_du(
    jobs: Annotated[
        list[Path] | None, typer.Argument(metavar="[JOB]...", help="Jobs to count too.")
    ] = None,
    as_json: AsJson = False,
    store: StorePlace = STORE,
) -> None:
    """Say how much there is, by stage and by job."""
    from dataclasses import asdict

    from artifacts.upkeep.usage import measure_usage

    opened = _open(store, create=False)
    found = {str(path): _actions_of(path, opened)[1] for path in jobs or []}
    usage = measure_usage(opened, {name: actions.keys for name, actions in found.items()})
    if as_json:
        typer.echo(json.dumps({"store": opened.location, **asdict(usage)}, indent=2))
    else:
        _print_usage(usage)


@housekeeping.command("export")
def store_export(
    path: JobFile,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Store to copy to.")],
    store: StorePlace = STORE,
) -> None:
    """Copy what a job is made of to another store."""
    from artifacts.upkeep.transfer import transfer
    from flows.outcomes import InvalidRequest

    opened = _open(store, create=False)
    job, actions = _actions_of(path, opened)
    if not actions.made:
        raise InvalidRequest(f"{opened.location} has nothing of {path}: run it first")
    code = _print_transferred(transfer(opened, _open(target), actions.made))
    raise typer.Exit(SOME_FAILED if job.bad else code)


@housekeeping.command("import")
def store_import(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Store to copy all of.")],
    store: StorePlace = STORE,
) -> None:
    """Copy everything of another store."""
    from artifacts.upkeep.transfer import transfer
    from stages.planning.housekeeping import all_actions

    opened = _open(source, create=False)
    raise typer.Exit(_print_transferred(transfer(opened, _open(store), all_actions(opened))))


@app.command()
def doctor(
    model: Annotated[str, typer.Option(help="Model to look for.")] = "pocket",
    segmenter: Annotated[str, typer.Option(help="Segmenter to look for.")] = "pocket",
    store: StorePlace = STORE,
) -> None:
    """Say what is installed, and what is missing."""
    checks = {
        "versions": _versions,
        "device": _devices,
        "model": lambda: _model_place(model),
        "segmenter": lambda: _segmenter_place(segmenter),
        "store": lambda: f"{_open(store).location}, can be written",
        "prefect": _prefect_place,
    }
    missing = [name for name, check in checks.items() if not _report_check(name, check)]
    if missing:
        _say(f"Missing: {', '.join(missing)}")
    raise typer.Exit(SOME_FAILED if missing else ALL_DONE)


@app.command("train-pocket")
def train_pocket(
    work_dir: Annotated[Path, typer.Option(help="Checkpoints; a run goes on from here.")] = Path(
        ".training"
    ),
    minutes: Annotated[
        float | None, typer.Option(help="Stop after this time; a later run goes on.")
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="MODEL", help="Train one model.")] = None,
    from_shipped: Annotated[
        bool, typer.Option("--from-shipped", help="Begin new runs at the shipped weights.")
    ] = False,
) -> None:
    """Train the embedded models, or go on."""
    from flows.pocket.train import train_pocket as train

    train(work_dir, minutes, only, from_shipped=from_shipped)


@app.command()
def deploy(
    pool: Annotated[str, typer.Option(help="Process work pool.")] = "adaptivedrag",
) -> None:
    """Register the flow on a Prefect work pool."""
    from flows.deployment import deploy as register

    name = register(pool)
    _say(f"Deployed {name}. Start a worker with: prefect worker start --pool {pool} --limit 1")


@app.command()
def submit(
    job: JobFile,
    only: Only = None,
    from_stage: FromStage = None,
    select: Select = None,
    retry_failed: RetryFailed = False,
    shards: Annotated[int, typer.Option(min=1, help="At least so many flow runs.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Do again what is there.")] = False,
    max_failures: Annotated[
        int | None,
        typer.Option(min=0, help="A flow run stops once more of its edits than this have failed."),
    ] = None,
    stage_timeout: StageTimeout = None,
    store: StorePlace = STORE,
    device: Device = "cpu",
) -> None:
    """Let Prefect workers do what is missing."""
    from flows.deployment import submit as submit_job

    runs = submit_job(
        job,
        store_location=store,
        shards=shards,
        only=only,
        from_stage=from_stage,
        select=select,
        retry_failed=retry_failed,
        force=force,
        device=device,
        max_failures=max_failures,
        stage_timeout=_timeout(stage_timeout),
    )
    nothing = "Nothing to submit: every edit is done or quarantined"
    _say(f"{len(runs)} flow runs created" if runs else nothing)
    for name in runs:
        _say(f"  {name}")


def _load(path: Path, select: str | None = None) -> "Job":
    """Read a job; on a terminal, say how far that is once it takes longer than a moment."""
    from stages.jobs.reader import load_job

    shown, begun = sys.stderr.isatty(), time.monotonic()
    said = begun

    def tell(read: int, edits: int) -> None:
        nonlocal said
        now = time.monotonic()
        if shown and now - begun > 1 and now - said > 0.2:
            said = now
            typer.echo(f"\rLooking at images: {read} of {edits} edits", nl=False, err=True)

    try:
        return load_job(path, select=select, on_edit=tell)
    finally:
        if said > begun:
            typer.echo("\r\033[K", nl=False, err=True)


def _console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def _say(text: str, *, stderr: bool = False) -> None:
    _console(stderr=stderr).print(text, markup=False, soft_wrap=True)


def _fail(message: str, code: int) -> NoReturn:
    _say(f"adaptivedrag: {' '.join(message.split())}", stderr=True)
    raise typer.Exit(code)


def _fail_if_ours(error: Exception) -> None:
    """End with one line if the error is one that we raise on purpose."""
    from adaptivedrag.errors import AdaptiveDragError
    from artifacts import ArtifactError
    from flows.outcomes import InvalidRequest
    from flows.prefect_server import PrefectUnavailable
    from stages.reports.report import ReportUnwritable

    if isinstance(error, ReportUnwritable):
        _fail(str(error), STOPPED_EARLY)
    if isinstance(error, AdaptiveDragError | ArtifactError | InvalidRequest | PrefectUnavailable):
        _fail(str(error), NOT_STARTED)


def _open(location: str, *, create: bool = True) -> "ArtifactStore":
    from artifacts import ArtifactStore

    return ArtifactStore.open(location, create)


def _open_to_read(location: str) -> "ArtifactStore":
    """Open a store that need not be writable; for one that is not there yet, an empty one."""
    from artifacts import ArtifactStore, StoreAbsent

    try:
        return _open(location, create=False)
    except StoreAbsent:
        return ArtifactStore.absent(location)


def _say_if_absent(opened: "ArtifactStore") -> None:
    if opened.is_absent:
        _say(f"There is no store at {opened.location} yet")


def _run(job: "Job", **options: Any) -> "RunSummary":
    """Run a job and print its summary."""
    from flows.run_job import run as run_job

    _say_conversions(job)
    _say_what_pocket_is(job)
    summary = run_job(job, console=_console(), **options)
    _print_summary(summary)
    return summary


def _end(summary: "RunSummary") -> NoReturn:
    from flows.run_job import end_process

    end_process(summary)


def _end_evaluation(evaluated: "Evaluated") -> NoReturn:
    """Print the tables in short, and end with the evaluation's exit code."""
    from flows.run_job import end_process

    _print_scores(evaluated.evaluation)
    for row in evaluated.evaluation.rows:
        _print_lines(f"Missing in {row.name}", [str(missing) for missing in row.missing])
    _print_lines("Not available", evaluated.evaluation.unavailable)
    _say(f"Tables: {evaluated.report}")
    end_process(evaluated)


def _print_scores(evaluation: "Evaluation") -> None:
    from rich.table import Table

    shown = [metric for metric in evaluation.metrics if metric.shown]
    table = Table("row", "edits", *(metric.title for metric in shown), box=None, pad_edge=False)
    for row in evaluation.rows:
        means = [row.means.get(metric.name) for metric in shown]
        cells = [
            f"{mean.mean:.{metric.digits}f}" if mean else "–"
            for mean, metric in zip(means, shown, strict=True)
        ]
        table.add_row(row.name, str(row.counts["edits"]), *cells)
    _console().print(table)


def _print_summary(summary: "RunSummary") -> None:
    failed = [str(failure) for failure in summary.failed] + [str(bad) for bad in summary.bad]
    _print_lines("Failed", failed)
    saved = summary.memory_saved_by.items()
    lines = [f"{stage}: {', '.join(measures)}" for stage, measures in saved]
    _print_lines("Memory was short; what was done about it", lines)
    if summary.stopped:
        _say(f"Stopped early: {summary.stopped}")
    _say(f"{summary.job}: {summary}")
    if summary.report:
        _say(f"Report: {summary.report}")


def _print_lines(title: str, lines: Sequence[str]) -> None:
    if lines:
        _say(f"{title}:")
        for line in lines:
            _say(f"  {line}")


def _print_bad(job: "Job") -> None:
    _print_lines("Cannot be done as written", [str(bad) for bad in job.bad])


def _say_conversions(job: "Job") -> None:
    """Say which images were converted, each once."""
    notes = {edit.image_path.name: edit.image.notes for edit in job.edits if edit.image.notes}
    lines = [f"{name}: {'; '.join(said)}" for name, said in notes.items()]
    more = len(lines) - EDITS_SHOWN
    _print_lines("Converted", lines[:EDITS_SHOWN] + ([f"and {more} more"] if more > 0 else []))


def _say_what_pocket_is(job: "Job") -> None:
    if job.name != "demo" and any(edit.model == "pocket" for edit in job.edits):
        _say(
            "The pocket model knows drawn scenes, not photographs. For photographs name Stable "
            'Diffusion 1.5: model = "stable-diffusion-v1-5/stable-diffusion-v1-5" and segmenter = '
            '"facebook/sam2.1-hiera-base-plus" in the job, or --model and --segmenter of `edit`.'
        )


def _write_panels(job: "Job", store: str, folder: Path, truths: Mapping[str, Path]) -> Path:
    from stages.reports.panel import write_panel

    opened = _open(store)
    for each in job.edits:
        write_panel(each, opened, folder / f"{each.id}.png", truth=truths.get(each.id))
    return folder


def _parse_drag(text: str) -> "Drag":
    from adaptivedrag.errors import InvalidEdit
    from adaptivedrag.points import Drag, ImagePoint

    match = _DRAG.fullmatch(text)
    if not match:
        raise InvalidEdit(f'--drag {text!r} cannot be read: write it as "120,80->180,80"')
    x, y, target_x, target_y = map(float, match.groups())
    return Drag(ImagePoint(x, y), ImagePoint(target_x, target_y))


def _spec(named: Mapping[str, str], settings: Sequence[str]) -> "JobSpec":
    """Make the settings of `edit` from its options."""
    from stages.jobs.spec import parse_spec

    raw: dict[str, Any] = dict(named)
    for setting in settings:
        given = _parse_setting(setting)
        for name, value in given.items():
            both = isinstance(value, dict) and isinstance(raw.get(name), dict)
            raw[name] = {**raw[name], **value} if both else value
    return parse_spec(raw)


def _parse_setting(setting: str) -> dict[str, Any]:
    """Read KEY=VALUE as TOML; a word without quotes is text."""
    from adaptivedrag.errors import InvalidEdit

    key, equals, value = setting.partition("=")
    for form in (setting, f"{key}{equals}{json.dumps(value)}"):
        try:
            return tomllib.loads(form)
        except tomllib.TOMLDecodeError:
            continue
    raise InvalidEdit(f"--set {setting!r} cannot be read: write it as optimize_latent.steps=40")


def _picture_path(path: Path, image: Path) -> Path:
    from adaptivedrag.errors import InvalidEdit

    if path.suffix.lower() != ".png":
        raise InvalidEdit(f"--out {path} is no PNG: give it the suffix .png")
    if path.resolve() == image.resolve():
        raise InvalidEdit(f"--out {path} is the image itself: name another file")
    return path


def _edit_one(wanted: "Edit", store: str, target: Path, device: str) -> int:
    """Make what is missing of one edit, without Prefect, and save the picture."""
    from adaptivedrag.config import Runtime
    from stages.planning.plan import plan_edits
    from stages.reports.report import writing
    from stages.workbench import Workbench

    opened = _open(store)
    (planned,) = plan_edits([wanted], opened)
    bench = Workbench(opened, Runtime(device))
    code = _make(bench, wanted, planned.to_make)
    if code == ALL_DONE:
        (planned,) = plan_edits([wanted], opened)
        with writing(target):
            _save_result(planned, opened, target)
    return code


def _make(bench: Any, wanted: "Edit", stages: Sequence[str]) -> int:
    from adaptivedrag.errors import AdaptiveDragError
    from artifacts import ArtifactError

    for stage in stages:
        try:
            with _progress(stage) as on_step:
                record = bench.perform(stage, wanted, on_step=on_step)
            _say(f"{stage} {record.circumstances.seconds:.1f} s")
        except AdaptiveDragError as error:
            _say(f"adaptivedrag: {stage}: {error}", stderr=True)
            return SOME_FAILED
        except (ArtifactError, OSError) as error:
            _say(f"adaptivedrag: {stage}: {error}", stderr=True)
            return STOPPED_EARLY
    return ALL_DONE


@contextmanager
def _progress(stage: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with the time that is left, on a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = _console()
    columns = (TextColumn("{task.description:<20}"), BarColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(stage, total=None)
        yield lambda step, steps: bar.update(task, completed=step, total=steps)


def _save_result(planned: "EditPlan", opened: "ArtifactStore", target: Path) -> None:
    from PIL import Image

    from stages.reports.panel import write_panel

    records = {name: staged.record for name, staged in planned.stages.items()}
    last = records["sample_image"]
    assert last is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(opened.read(last)["image"]).save(target)
    panel = write_panel(planned.edit, opened, target.with_name(f"{target.stem}-panel.png"))
    _say(f"{target}: {_verdict(records['optimize_latent'])} (all stages: {panel})")


def _verdict(record: "Record | None") -> str:
    return str(record.summary.get("verdict", "done")) if record else "done"


def _edit_of(job: "Job", name: str) -> "Edit":
    import difflib

    from adaptivedrag.errors import InvalidEdit

    for each in job.edits:
        if each.id == name:
            return each
    for bad in job.bad:
        if bad.id == name:
            raise InvalidEdit(f"edit {bad}")
    close = difflib.get_close_matches(name, job.order, n=1)
    hint = f": did you mean {close[0]!r}?" if close else ""
    raise InvalidEdit(f"{job.path} has no edit {name!r}{hint}")


def _check_why(why: str | None, stage: str | None) -> None:
    from flows.outcomes import InvalidRequest
    from stages import STAGE_NAMES

    if stage and not why:
        raise InvalidRequest(f"{stage!r} is one argument too many: name an edit with --why EDIT")
    if stage and stage not in STAGE_NAMES:
        raise InvalidRequest(f"There is no stage {stage!r}; stages: {', '.join(STAGE_NAMES)}.")


def _explain(wanted: "Edit", stage: str | None, opened: "ArtifactStore", *, as_json: bool) -> None:
    """Say why stages of an edit have to run, or have not."""
    from stages.planning.plan import reasons
    from stages.reports import plan_tables as plan_report

    found = reasons(wanted, opened)
    found = {name: reason for name, reason in found.items() if stage in (None, name)}
    if as_json:
        typer.echo(json.dumps(plan_report.explained_document(wanted.id, found), indent=2))
    else:
        for line in plan_report.explained_lines(wanted.id, found):
            _say(line)


def _print_provenance(wanted: "Edit", opened: "ArtifactStore", *, as_json: bool) -> None:
    from stages.planning.provenance import provenance, provenance_document, provenance_lines

    chain = provenance(wanted, opened)
    if as_json:
        typer.echo(json.dumps(provenance_document(wanted, chain, opened), indent=2))
    else:
        for line in provenance_lines(chain):
            _say(line)


def _failure_line(planned: "EditPlan", job: Path) -> str:
    """Say how an edit failed that is not done; "" if it did not."""
    staged = planned.failed
    if staged is None or staged.failure is None:
        return ""
    from stages.planning.plan import Status

    held = "quarantined, " if staged.status is Status.QUARANTINED else ""
    return (
        f"{planned.edit.id}: {staged.stage}: {staged.failure} ({staged.failure.time}, {held}"
        f"traceback: adaptivedrag status {job} {planned.edit.id})"
    )


def _print_attempts(wanted: "Edit", opened: "ArtifactStore") -> None:
    """Print the failed attempts at what an edit still needs, each with its traceback."""
    from stages.failures import Attempt
    from stages.planning.plan import plan_edits

    (planned,) = plan_edits([wanted], opened)
    told = False
    for name in planned.to_make:
        staged = planned.stages[name]
        for document in opened.attempts(name, staged.key) if staged.failure and staged.key else ():
            attempt = Attempt.from_document(document)
            _say(f"{attempt.time} {name}: {attempt.kind}: {attempt.message}")
            _say(attempt.traceback)
            told = True
    if not told:
        _say(f"{wanted.id}: {'done' if planned.done else 'not done, and no failure is kept'}")


def _timeout(text: str | None) -> int | None:
    from flows.time_limits import seconds_of

    return None if text is None else seconds_of("--stage-timeout", text)


def _parse_duration(option: str, text: str) -> "timedelta":
    from datetime import timedelta

    from flows.outcomes import InvalidRequest

    match = _DURATION.fullmatch(text)
    if not match:
        raise InvalidRequest(f"{option} {text!r} cannot be read: write it as 30d (s, m, h, d, w)")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _parse_size(option: str, text: str) -> int:
    """Read a size in bytes; kB, MB and GB count thousands, KiB, MiB and GiB 1024s."""
    from flows.outcomes import InvalidRequest

    match = _SIZE.fullmatch(text)
    if not match:
        raise InvalidRequest(f"{option} {text!r} cannot be read: write it as 500MB, 50GB or 64GiB")
    number, prefix, binary = match.groups(default="")
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(prefix.lower() or " "))


def _actions_of(path: Path, opened: "ArtifactStore") -> tuple["Job", "JobActions"]:
    """Find what a job is made of in a store; say what of the job cannot be read."""
    from stages.jobs.reader import load_job
    from stages.planning.housekeeping import job_actions

    job = load_job(path)
    for bad in job.bad:
        _say(f"adaptivedrag: {path}: {bad}", stderr=True)
    return job, job_actions(job.edits, opened)


def _keeping(jobs: Sequence[Path], policy: "Policy", opened: "ArtifactStore") -> "Policy":
    """Add the results of jobs to what is kept; refuse where it is not sure which those are."""
    from dataclasses import replace

    from flows.outcomes import InvalidRequest
    from stages.jobs.reader import load_job
    from stages.planning.housekeeping import job_actions

    if not jobs:
        return policy
    keys: set[Key] = set()
    made = 0
    for path in jobs:
        job = load_job(path)
        if job.bad:
            raise InvalidRequest(
                f"--keep {path}: what was made of {job.bad[0].id} cannot be told and would go: "
                f"correct or remove it ({job.bad[0].reason})"
            )
        found = job_actions(job.edits, opened)
        keys |= found.keys
        made += len(found.made)
    if not made:
        names = ", ".join(map(str, jobs))
        raise InvalidRequest(f"--keep {names}: {opened.location} has nothing of it; all would go")
    return replace(policy, keep=frozenset(keys))


def _print_candidates(title: str, candidates: Sequence["Candidate"]) -> None:
    from rich.filesize import decimal

    lines = [f"{c.kind.value} {c.path}: {decimal(c.size)}, {c.reason}" for c in candidates]
    _print_lines(title, lines)
    _say(f"{title}: {_amount(candidates)}")


def _print_collected(collected: "Collected") -> None:
    swept = collected.swept
    _say(f"Deleted: {_amount(swept.removed)}")
    if swept.spared:
        _say(f"Marked before, but used again, kept or gone by now: {len(swept.spared)}")
    _say(f"Marked: {_amount(collected.marked.candidates)}")
    if collected.next_sweep:
        _say(
            f"What is marked may be deleted by the next call after "
            f"{collected.next_sweep:%Y-%m-%d %H:%M:%S} UTC, if it may still go then"
        )


def _amount(candidates: Sequence["Candidate"]) -> str:
    """Count candidates by kind, with their bytes."""
    from collections import Counter

    from rich.filesize import decimal

    if not candidates:
        return "nothing"
    kinds = Counter(candidate.kind.value for candidate in candidates)
    counted = ", ".join(f"{number} {kind}{'s' * (number > 1)}" for kind, number in kinds.items())
    return f"{counted}, {decimal(sum(candidate.size for candidate in candidates))}"


def _print_usage(usage: "Usage") -> None:
    from rich.filesize import decimal
    from rich.table import Table

    _print_amounts("stage", {**usage.stages, "all stages": usage.total})
    if usage.jobs:
        _say("")
        _print_amounts("job", usage.jobs)
    _say("")
    beside = {"superseded or of no record": usage.unnamed.size, **usage.beside}
    table = Table("beside", "size", box=None, pad_edge=False)
    for name, size in beside.items():
        table.add_row(name, decimal(size))
    _console().print(table)
    _say(f"In all: {decimal(usage.total.size + sum(beside.values()))}")


def _print_amounts(title: str, amounts: Mapping[str, "Amount"]) -> None:
    from rich.filesize import decimal
    from rich.markup import escape
    from rich.table import Table

    columns = (title, "actions", "without bytes", "objects", "size", "not shared")
    table = Table(*columns, box=None, pad_edge=False)
    for name, amount in amounts.items():
        counts = (amount.actions, amount.known, amount.objects)
        sizes = (decimal(amount.size), decimal(amount.own))
        table.add_row(escape(name), *map(str, counts), *sizes)
    _console().print(table)


def _print_transferred(transferred: Iterator["Transferred"]) -> int:
    """Say what failed as it comes, and what became of all; return the exit code."""
    from collections import Counter

    from rich.filesize import decimal

    from artifacts.upkeep.transfer import Outcome

    counts, size = Counter[Outcome](), 0
    for each in transferred:
        counts[each.outcome] += 1
        size += each.size
        if each.outcome.is_failure:
            _say(f"{each.stage} {each.key}: {each.outcome.value}: {each.reason}")
    failed = sum(number for outcome, number in counts.items() if outcome.is_failure)
    _say(
        f"{counts[Outcome.COPIED]} copied ({decimal(size)}), {counts[Outcome.THERE]} there, "
        f"{counts[Outcome.KNOWN]} without bytes, {failed} failed"
    )
    return SOME_FAILED if failed else ALL_DONE


def _say_imported(imported: "Imported") -> None:
    _print_lines("Skipped", imported.skipped)
    _say(f"{imported.images} images, {imported.drags} drags: {imported.job}")


def _report_check(name: str, check: Callable[[], str]) -> bool:
    from adaptivedrag.errors import AdaptiveDragError
    from artifacts import ArtifactError
    from flows.prefect_server import PrefectUnavailable

    try:
        _say(f"{name + ':':<11}{check()}")
    except (AdaptiveDragError, ArtifactError, PrefectUnavailable, ImportError) as error:
        _say(f"{name + ':':<11}missing: {' '.join(str(error).split())}")
        return False
    return True


def _versions() -> str:
    import platform
    from importlib.metadata import version

    names = (
        "adaptivedrag",
        "torch",
        "diffusers",
        "transformers",
        "peft",
        "sam2",
        "prefect",
        "zarr",
    )
    return ", ".join(
        [f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)]
    )


def _devices() -> str:
    import os

    import torch

    found = [f"cpu ({os.cpu_count()} cores)"]
    for number in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(number).total_memory / 2**30
        found.append(f"cuda:{number} ({torch.cuda.get_device_name(number)}, {memory:.0f} GiB)")
    return ", ".join(found)


def _model_place(name: str) -> str:
    from adaptivedrag.model.weights import find_diffusion

    return f"{name} at {find_diffusion(name)}"


def _segmenter_place(name: str) -> str:
    from adaptivedrag.model.weights import find_segmenter

    return f"{name} at {find_segmenter(name)}"


def _prefect_place() -> str:
    from flows.prefect_server import PrefectServer, configured_api_url

    url = configured_api_url()
    if not url:
        return "no server named; each run starts its own for its time"
    PrefectServer(url).wait_until_ready()
    return f"server at {url} answers"


if __name__ == "__main__":
    app()
