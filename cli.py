"""The command line: signatures and help texts. What commands do and print is in flows.terminal.

`--help` answers at once, since a command imports what it needs when it is called. A command
returns its exit code, 0 by default; flows.outcomes lists the codes.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperGroup

from flows import terminal


class Commands(TyperGroup):
    """The program: turns what a command returns or raises into an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; report the errors that we raise on purpose in one line."""
        try:
            code = super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:
            code = terminal.errors.report_error(error)
            if code is None:
                raise
        raise typer.Exit(code or 0)


class JobOrAblation(TyperGroup):
    """The group of `eval`, which takes `eval JOB` for `eval job JOB`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the command `job` unless another one is named."""
        is_job = args and args[0] not in (*self.commands, "--help")
        return list(super().parse_args(ctx, ["job", *args] if is_job else args))


def group(text: str, cls: type[TyperGroup] = TyperGroup) -> typer.Typer:
    """Return a group of commands, with plain help: rich help takes twice the time."""
    return typer.Typer(cls=cls, no_args_is_help=True, rich_markup_mode=None, help=text)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Edit images by dragging points, one image or thousands: AdaptiveDrag.",
)
importing = group("Write a job for a table, pictures or a benchmark.")
evaluating = group("Measure the results of a job, or run the ablation.", JobOrAblation)
housekeeping = group("Check, measure, clean or copy a store.")
clustering = group("Run a database, a server and workers on this machine.")
app.add_typer(importing, name="import")
app.add_typer(evaluating, name="eval")
app.add_typer(housekeeping, name="store")
app.add_typer(clustering, name="cluster")


def option(metavar: str | None, text: str, *names: str, **limits: Any) -> Any:
    """Describe an option with a value."""
    return typer.Option(*names, metavar=metavar, help=text, **limits)


def flag(name: str, text: str) -> Any:
    """Describe an option without a value."""
    return typer.Option(name, help=text)


def argument(metavar: str, text: str) -> Any:
    """Describe an argument."""
    return typer.Argument(metavar=metavar, help=text)


Text: TypeAlias = str | None
File: TypeAlias = Path | None

JobFile = Annotated[Path, argument("JOB", "Job file, such as job.toml.")]
EditId = Annotated[Text, argument("EDIT", "Id of an edit of the job.")]
Store = Annotated[str, option("PATH", "Store of the artifacts: a folder or a URL.")]
Out = Annotated[File, option("DIR", "Folder for the results; under results/ by default.")]
Device = Annotated[str, option(None, 'Device that models run on: "cpu", "cuda" or "cuda:1".')]
AsJson = Annotated[bool, flag("--json", "Print JSON.")]
STORE = "./.adaptivedrag"

# Which edits and stages a run takes, and when it stops.
SELECTED = "Only edits with such an id (* and ?) or tag, or of @FILE[:up|:down]; may be repeated."
Select = Annotated[list[str] | None, option("PATTERN", SELECTED)]
Only = Annotated[Text, option("STAGE", "Run this stage only.")]
FromStage = Annotated[Text, option("STAGE", "Run this stage and later ones.", "--from")]
RetryFailed = Annotated[bool, flag("--retry-failed", "Only edits that failed or are quarantined.")]
Force = Annotated[bool, flag("--force", "Redo what is done; with --from, what that stage did.")]
MaxFailures = Annotated[Text, option("N|N%", "Stop when more than this many edits have failed.")]
FailFast = Annotated[bool, flag("--fail-fast", "Stop at the first failure.")]
StageTimeout = Annotated[Text, option("TIME", "Fail an edit if a stage takes longer, such as 20m.")]
Deadline = Annotated[Text, option("HH:MM", "Stop at this time of day, after the current step.")]
Budget = Annotated[Text, option("TIME", "Stop after 6h, 90m or 1h30m, after the current step.")]
JobOnly = Annotated[bool, flag("--job-only", "Only write the job and its pictures.")]
Place = Annotated[Text, option("DIR", "Folder or URL for the results; under results/ by default.")]
TOGETHER = "Take up to N edits through a model together; auto: what fits on a GPU, 1 on a CPU."
Batch = Annotated[str, option("N|auto", TOGETHER)]
Compile = Annotated[
    bool, flag("--compile", "Compile the UNet's blocks: slow at first, then faster.")
]
ChannelsLast = Annotated[bool, flag("--channels-last", "Keep channels last in a GPU's memory.")]
Notify = Annotated[Text, option("URL", "POST JSON there at the first failure and at the end.")]
OnFinish = Annotated[Text, option("CMD", "At the end, run this in a shell, with JSON to read.")]
Shard = Annotated[Text, option("I/N", "Only part I of N, whole images, without a Prefect server.")]
Dask = Annotated[Text, option("ADDRESS", "On a Dask scheduler's workers: tcp://HOST:8786.")]
Events = Annotated[File, option("FILE", "Append what happens to it, as JSON lines.")]
Shards = Annotated[int, option(None, "Create at least this many flow runs.", min=1)]

# The cluster of a machine.
Home = Annotated[File, option("DIR", "Folder of the cluster; in the user's data folder.")]
Workers = Annotated[int | None, option("N", "Worker processes; 0 for none.", min=0)]
Postgres = Annotated[Text, option("URL", "Use this PostgreSQL database instead of an own one.")]
Host = Annotated[Text, option("ADDRESS", "Where the server listens; 127.0.0.1 by default.")]
ApiPort = Annotated[
    int | None, option("N", "Port of the server; any that is free, then kept.", min=0, max=65535)
]

# One edit, and what is shown.
Image = Annotated[Path, argument("IMAGE", "Image to edit.")]
Drags = Annotated[list[str], option("X,Y->X,Y", "Handle and target in pixels; may be repeated.")]
Prompt = Annotated[str, option(None, "What the image shows.")]
Mask = Annotated[File, option(None, "Image of the same size: black where nothing may change.")]
Model = Annotated[str, option(None, '"pocket", a directory, a .safetensors file, or a hub id.')]
Vae = Annotated[Text, option("VAE", "Directory, .safetensors file, or hub id; the model's own.")]
Segmenter = Annotated[str, option(None, '"pocket", a SAM 2 checkpoint, or a hub id.')]

# What the doctor judges.
Judged = Annotated[File, argument("[JOB]", "Job file whose models, memory and room are judged.")]
JudgedModel = Annotated[Text, option("MODEL", "As in a job; the pocket model without a job.")]
JudgedSegmenter = Annotated[Text, option("MODEL", "As in a job; the pocket one without a job.")]
Preset = Annotated[
    Text,
    option(
        None,
        '"plus" (default), "paste", "paper", "released", "dragdiffusion" or "alternating".',
    ),
]
Lora = Annotated[Text, option(None, '"auto" (default), "train", "off", or a .safetensors file.')]
Settings = Annotated[list[str] | None, option("KEY=VALUE", "Such as train_lora.steps=40.", "--set")]
Varied = Annotated[
    list[str] | None, option("KEY=VALUE", "Also with this setting, as a variant.", "--set")
]
Png = Annotated[File, option("FILE", "PNG to write; results/<image>.png by default.")]
WhyStage = Annotated[Text, argument("STAGE", "With --why: only this stage.")]
Why = Annotated[Text, option("EDIT", "Explain this edit: what differs from earlier results.")]
EditPages = Annotated[bool, flag("--edits", "Write pages of edits: all, or the selected.")]
EachEdit = Annotated[bool, flag("--edits", "Print one line per edit.")]
Failed = Annotated[Text, argument("EDIT", "Print how this edit failed, with tracebacks.")]
Watch = Annotated[bool, flag("--watch", "Show it again until the job is over, or Ctrl-C.")]
View = Annotated[bool, flag("--open", "Open the panel in a viewer.")]
LoraFile = Annotated[File, option("FILE", "Write its LoRA for other tools instead.", "--lora")]
Serve = Annotated[bool, flag("--serve", "Then serve the page to this machine's browsers.")]
Port = Annotated[
    int | None, option("N", "Port to serve at; by default a free one.", min=1, max=65535)
]
WebpFile = Annotated[File, option("FILE", "Write an animation of its drag, as WebP, instead.")]
CopyTo = Annotated[File, option("DIR", "Copy what --stage made, file by file, instead.")]
CopiedStage = Annotated[Text, option("STAGE", "With --copy-to: what to copy.")]
Origins = Annotated[bool, flag("--provenance", "List what each artifact was made from instead.")]

# What is annotated, in a browser.
Drawn = Annotated[Path, argument("IMAGE|FOLDER|JOB", "Picture, folder of pictures, or job file.")]
Elsewhere = Annotated[File, option("DIR", "Folder of the job; beside the pictures by default.")]
Browse = Annotated[bool, flag("--open", "Open the page in a browser.")]

# What is compared.
Other = Annotated[File, argument("[OTHER]", "Job to compare with, on the same edits.")]
BeforeNow = Annotated[bool, flag("--before", "Compare with the job's results of other settings.")]

# What is taken away.
Taken = Annotated[str, argument("DIR", "New folder for the dataset, or one of an earlier export.")]
Form = Annotated[str, option("FORMAT", '"imagefolder", "parquet" or "webdataset".', "--to")]
Votes = Annotated[File, option("FILE", "Votes and notes from the page, JSON lines.")]
ShardSize = Annotated[str, option("SIZE|N", "Most that a shard holds: 500MB, or a count of edits.")]

# Benchmarks, stores, workers, and the embedded models.
Folder = Annotated[Path, argument("DIR", "Folder of the benchmark.")]
JobFolder = Annotated[File, option("DIR", "Folder for the job; the benchmark's by default.")]
Table = Annotated[Path, argument("FILE", "CSV, with a head that names its columns.")]
Json = Annotated[Path, argument("FILE", "JSON: an array or an object of edits.")]
Parquet = Annotated[Path, argument("FILE", "Parquet file, or a folder of them.")]
Pictures = Annotated[Path, argument("DIR", "Folder of pictures, with folders in it.")]
Beside = Annotated[File, option("DIR", "Folder for the job; beside what is imported by default.")]
Images = Annotated[File, option("DIR", "Folder of the images; the file's by default.")]
FollowLinks = Annotated[bool, flag("--follow-links", "Take links out of the folder.")]
Regions = Annotated[bool, flag("--regions", "Take the regions of DragBench-SR and -DR.")]
DragCount = Annotated[int, option(None, "Number of drags, of all kinds.", min=1)]
Scenes = Annotated[int, option(None, "Number of scenes they are spread over.", min=1, max=1000)]
Ablation = Annotated[bool, flag("--ablation", "Write the fixed 40 drags of the ablation.")]
Size = Annotated[int, option(None, "Side of the pictures in pixels.")]
Against = Annotated[File, option("OTHER", "Job to compare with, on the same edits.")]
Dift = Annotated[Text, option("MODEL", "Model for MD; for photographs, Stable Diffusion 2.1.")]
Dataset = Annotated[Path, argument("DIR", "Dataset: a folder with a job.toml.")]
Method = Annotated[Text, option(None, 'Whose modules are switched one by one; "plus" (default).')]
Rows = Annotated[Text, option("ROW,...", "Only these rows of the table.")]
Keep = Annotated[list[Path] | None, option("JOB", "All but this job's results; may be repeated.")]
OlderThan = Annotated[Text, option("TIME", "Only what no run wrote or used for 30d, 12h or 2w.")]
AtMost = Annotated[Text, option("SIZE", "The oldest results, until 50GB or 64GiB are left.")]
Grace = Annotated[str, option("TIME", "Keep what was written since; longer than any write.")]
Forget = Annotated[bool, flag("--forget", "Delete records too; later stages become unknown.")]
DryRun = Annotated[bool, flag("--dry-run", "Print what would go, and delete nothing.")]
Jobs = Annotated[list[Path] | None, argument("JOB", "Jobs to count too.")]
Target = Annotated[str, argument("TARGET", "Store to copy to.")]
Source = Annotated[str, argument("SOURCE", "Store to copy from.")]
Pool = Annotated[str, option(None, "Process work pool.")]
Followed = Annotated[bool, flag("--watch", "Follow the job to its end, with its exit code.")]
Gpus = Annotated[Text, option("N,N", "Numbers of the GPUs; all by default.")]
Metrics = Annotated[Text, option("HOST:PORT", "Answer Prometheus there; PORT alone: on loopback.")]
Processes = Annotated[
    int | None, option("N", "Processes, where there is no GPU; by default one.", min=1)
]
WorkDir = Annotated[Path, option(None, "Folder of checkpoints, from which training continues.")]
Minutes = Annotated[float | None, option(None, "Stop after this time; a later call continues.")]
Trained = Annotated[Text, option("MODEL", "Train this model only.")]
FromShipped = Annotated[bool, flag("--from-shipped", "Start new runs from the shipped weights.")]


def print_version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        typer.echo(f"adaptivedrag {version('adaptivedrag')}")
        raise typer.Exit


VERSION = option(None, "Print the version.", "--version", callback=print_version, is_eager=True)


@app.callback()
def main(version: Annotated[bool, VERSION] = False) -> None:
    """Prepare the process: a home for libraries, and output that can hold any text."""
    terminal.process.prepare()


@app.command()
def demo(
    out: Out = None, store: Store = STORE, device: Device = "cpu", job_only: JobOnly = False
) -> None:
    """Edit six rendered scenes whose true results are known."""
    out = out or Path("results/demo")
    if job_only:
        terminal.run.write_demo_job(out)
    else:
        terminal.run.run_demo(out, store, device)


@app.command()
def edit(
    image: Image,
    drag: Drags,
    prompt: Prompt = "",
    mask: Mask = None,
    model: Model = "pocket",
    vae: Vae = None,
    segmenter: Segmenter = "pocket",
    preset: Preset = None,
    lora: Lora = None,
    settings: Settings = None,
    out: Png = None,
    store: Store = STORE,
    device: Device = "cpu",
) -> int:
    """Edit one image."""
    named = {"model": model, "segmenter": segmenter}
    optional = {"preset": preset, "lora": lora, "vae": vae}
    named |= {name: value for name, value in optional.items() if value}
    return terminal.edit.edit(image, drag, prompt, mask, named, settings or [], out, store, device)


@app.command()
def run(
    job: JobFile,
    only: Only = None,
    from_stage: FromStage = None,
    select: Select = None,
    settings: Varied = None,
    retry_failed: RetryFailed = False,
    max_failures: MaxFailures = None,
    fail_fast: FailFast = False,
    force: Force = False,
    stage_timeout: StageTimeout = None,
    deadline: Deadline = None,
    budget: Budget = None,
    batch: Batch = "auto",
    compile: Compile = False,
    channels_last: ChannelsLast = False,
    store: Store = STORE,
    out: Place = None,
    device: Device = "cpu",
    notify: Notify = None,
    on_finish: OnFinish = None,
    events: Events = None,
    shard: Shard = None,
    dask: Dask = None,
) -> int:
    """Run a job: make what is missing.

    Fewer than 20 edits need no Prefect server; more have one of their own, or the one that
    PREFECT_API_URL names.
    """
    request = terminal.run.request_of(
        settings=settings or [],
        only=only,
        from_stage=from_stage,
        retry_failed=retry_failed,
        max_failures=max_failures,
        fail_fast=fail_fast,
        force=force,
        stage_timeout=stage_timeout,
        deadline=deadline,
        budget=budget,
        batch=batch,
        compile=compile,
        channels_last=channels_last,
        device=device,
        shard=shard,
    )
    return terminal.run.run_job(
        job, store, request, select or [], out, notify, on_finish, events, dask
    )


@app.command()
def plan(
    job: JobFile,
    stage: WhyStage = None,
    select: Select = None,
    settings: Varied = None,
    why: Why = None,
    edits: EachEdit = False,
    as_json: AsJson = False,
    store: Store = STORE,
    device: Device = "cpu",
) -> int:
    """Show what is missing of a job, why, and how long it takes."""
    chosen = select or []
    if why or stage:
        return terminal.plan.explain_edit(job, why, stage, chosen, store, as_json=as_json)
    return terminal.plan.show_plan(
        job, chosen, settings or [], store, device, edits=edits, as_json=as_json
    )


@app.command()
def status(
    job: JobFile,
    edit: Failed = None,
    select: Select = None,
    watch: Watch = False,
    as_json: AsJson = False,
    store: Store = STORE,
) -> None:
    """Show how far a job is, who is at what, and what failed."""
    terminal.status.show_status(job, edit, select or [], store, watch=watch, as_json=as_json)


@app.command()
def show(
    job: JobFile,
    edit: EditId = None,
    out: Out = None,
    store: Store = STORE,
    view: View = False,
    origins: Origins = False,
    as_json: AsJson = False,
    lora: LoraFile = None,
    animation: WebpFile = None,
    copy_to: CopyTo = None,
    stage: CopiedStage = None,
    select: Select = None,
) -> int | None:
    """Show what each stage made of an edit, or take it away."""
    taken = {
        "--lora": lora,
        "--animation": animation,
        "--copy-to": copy_to,
        "--provenance": origins,
        "--json": as_json and not origins,
    }
    terminal.show.refuse_several(taken)
    if copy_to:
        return terminal.show.copy_artifacts(job, edit, select or [], stage, copy_to, store)
    name = terminal.show.only_one(edit, stage, select)
    if animation:
        terminal.show.save_animation(job, name, animation, store)
    elif lora:
        terminal.show.save_lora(job, name, lora, store)
    elif origins or as_json:
        terminal.show.show_provenance(job, name, store, as_json=as_json)
    else:
        terminal.show.show_edit(job, name, out, store, view=view)
    return None


@app.command()
def report(
    job: JobFile,
    edits: EditPages = False,
    select: Select = None,
    settings: Varied = None,
    serve: Serve = False,
    port: Port = None,
    out: Place = None,
    store: Store = STORE,
) -> int:
    """Write the page, table and pictures of what is done so far."""
    chosen, beside = select or [], settings or []
    return terminal.run.write_job_report(
        job, out, store, chosen, beside, edits=edits, is_served=serve, port=port
    )


@app.command()
def annotate(
    target: Drawn,
    out: Elsewhere = None,
    browse: Browse = False,
    port: Port = None,
    store: Store = STORE,
    device: Device = "cpu",
) -> None:
    """Place points, and paint masks, in a browser."""
    terminal.annotate.annotate(target, out, port, store, device, opens=browse)


@app.command()
def compare(
    job: JobFile,
    other: Other = None,
    before: BeforeNow = False,
    settings: Varied = None,
    select: Select = None,
    out: Place = None,
    store: Store = STORE,
) -> int:
    """Compare jobs, variants of one, or what it had before.

    The page has every edit with both results, what was set otherwise, and who came nearer, and
    the differences with their intervals. Nothing is made that is missing.
    """
    chosen = select or []
    return terminal.compare.compare(job, other, before, settings or [], chosen, out, store)


@app.command()
def export(
    job: JobFile,
    folder: Taken,
    form: Form,
    select: Select = None,
    votes: Votes = None,
    shard_size: ShardSize = "500MB",
    store: Store = STORE,
) -> int:
    """Write finished edits as a dataset.

    It has pictures, points, prompts, masks, scores and votes. An export that was interrupted goes
    on; `import folder DIR` makes a job of one again.
    """
    return terminal.export.export(job, folder, form, select or [], votes, shard_size, store)


@importing.command("csv")
def import_csv(
    table: Table, out: Beside = None, images: Images = None, follow_links: FollowLinks = False
) -> None:
    """Import a table in CSV, one drag a row.

    Its columns are id, image, prompt, handle_x, handle_y, target_x and target_y; mask, tags and
    settings may be there too. Rows with one id are drags of one edit.
    """
    terminal.imports.import_csv(table, out, images, follow_links=follow_links)


@importing.command("json")
def import_json(
    file: Json, out: Beside = None, images: Images = None, follow_links: FollowLinks = False
) -> None:
    """Import edits in JSON: an array or an object.

    Points are [[x, y], [x, y], …] with handle and target in turn, {"x": …, "y": …}, or lists of
    handle_points and target_points.
    """
    terminal.imports.import_json(file, out, images, follow_links=follow_links)


@importing.command("parquet")
def import_parquet(
    file: Parquet, out: Beside = None, images: Images = None, follow_links: FollowLinks = False
) -> None:
    """Import a table in Parquet.

    Its columns are those of `import csv`; images are paths, or pictures as the hub's datasets have
    them. Needs pyarrow: pip install "adaptivedrag[parquet]".
    """
    terminal.imports.import_parquet(file, out, images, follow_links=follow_links)


@importing.command("folder")
def import_folder(
    directory: Pictures, out: Beside = None, follow_links: FollowLinks = False
) -> None:
    """Begin a job with an edit for each picture, or take an export back.

    The drags are for you to write. A text beside a picture, photo.txt beside photo.jpg, becomes
    its prompt. What `export` wrote gives the same edits again.
    """
    terminal.imports.import_folder(directory, out, follow_links=follow_links)


@importing.command("dragbench")
def import_dragbench(
    directory: Folder,
    out: JobFolder = None,
    regions: Regions = False,
    follow_links: FollowLinks = False,
) -> None:
    """Import DragBench, DragBench-SR or DragBench-DR.

    They are folders with original_image.png and meta_data.pkl, or meta_data_region.pkl.
    """
    terminal.imports.import_dragbench(directory, out, regions=regions, follow_links=follow_links)


@importing.command("drag100")
def import_drag100(
    directory: Folder, out: JobFolder = None, follow_links: FollowLinks = False
) -> None:
    """Import Drag100 or GoodDrag's own images.

    They are folders with original.jpg, points.json and mask.png.
    """
    terminal.imports.import_drag100(directory, out, follow_links=follow_links)


@importing.command("dragscenes")
def import_dragscenes(
    directory: Folder,
    edits: DragCount = 100,
    scenes: Scenes = 25,
    ablation: Ablation = False,
    size: Size = 256,
) -> None:
    """Render DragScenes: drags with true masks and known true results."""
    terminal.imports.import_dragscenes(directory, None if ablation else edits, scenes, size)


@evaluating.command("job")
def eval_job(
    job: JobFile,
    against: Against = None,
    select: Select = None,
    out: Out = None,
    dift: Dift = None,
    store: Store = STORE,
    device: Device = "cpu",
) -> int:
    """Measure the results of a job."""
    return terminal.scores.measure_job(job, against, select or [], out, dift, store, device)


@evaluating.command("ablation")
def eval_ablation(
    directory: Dataset,
    preset: Method = None,
    only: Rows = None,
    out: Out = None,
    dift: Dift = None,
    store: Store = STORE,
    device: Device = "cpu",
) -> int:
    """Run and measure the baselines, and each module on and off."""
    return terminal.scores.run_ablation(directory, preset, only, out, dift, store, device)


@housekeeping.command("verify")
def store_verify(store: Store = STORE) -> int:
    """Read every byte, and name what is damaged."""
    return terminal.store.verify(store)


@housekeeping.command("gc")
def store_gc(
    keep: Keep = None,
    older_than: OlderThan = None,
    at_most: AtMost = None,
    grace: Grace = "1h",
    forget: Forget = False,
    dry_run: DryRun = False,
    store: Store = STORE,
) -> None:
    """Delete what is no longer wanted, except what was written recently.

    Without --keep, --older-than and --at-most, only what no job can use goes. With several of
    them, only what meets all of them goes.
    """
    terminal.store.collect_garbage(keep or [], older_than, at_most, grace, store, forget, dry_run)


@housekeeping.command("du")
def store_du(jobs: Jobs = None, as_json: AsJson = False, store: Store = STORE) -> None:
    """Show how much the store holds, by stage and by job."""
    terminal.store.show_usage(jobs or [], store, as_json=as_json)


@housekeeping.command("export")
def store_export(job: JobFile, target: Target, store: Store = STORE) -> int:
    """Copy the artifacts of a job to another store; `adaptivedrag export` writes datasets."""
    return terminal.store.export_job(job, target, store)


@housekeeping.command("import")
def store_import(source: Source, store: Store = STORE) -> int:
    """Copy everything from another store."""
    return terminal.store.import_store(source, store)


@app.command()
def doctor(
    job: Judged = None,
    model: JudgedModel = None,
    vae: Vae = None,
    segmenter: JudgedSegmenter = None,
    store: Store = STORE,
    device: Device = "cpu",
) -> int:
    """Show what is installed, and whether a job or models can run."""
    return terminal.doctor.check_installation(job, model, vae, segmenter, store, device)


@clustering.command("up")
def cluster_up(
    home: Home = None,
    workers: Workers = None,
    gpus: Gpus = None,
    postgres: Postgres = None,
    host: Host = None,
    port: ApiPort = None,
) -> None:
    """Start the cluster, or repair or change the one that runs."""
    from flows.cluster.control import Wishes

    wishes = Wishes(workers=workers, gpus=gpus, postgres=postgres, host=host, port=port)
    terminal.cluster.start_cluster(home, wishes)


@clustering.command("down")
def cluster_down(home: Home = None) -> None:
    """Stop the cluster; its data stay."""
    terminal.cluster.stop_cluster(home)


@clustering.command("status")
def cluster_status(home: Home = None) -> int:
    """Show each part of the cluster, and what its workers are at."""
    return terminal.cluster.show_cluster(home)


@app.command("train-pocket")
def train_pocket(
    work_dir: WorkDir = Path(".training"),
    minutes: Minutes = None,
    only: Trained = None,
    from_shipped: FromShipped = False,
) -> None:
    """Train the embedded models, or continue training."""
    from flows.pocket.train import train_pocket as train

    train(work_dir, minutes, only, from_shipped=from_shipped)


@app.command()
def deploy(pool: Pool = "adaptivedrag") -> None:
    """Register the flow with a Prefect work pool."""
    terminal.workers.deploy_flow(pool)


@app.command()
def worker(
    pool: Pool = "adaptivedrag",
    gpus: Gpus = None,
    processes: Processes = None,
    metrics: Metrics = None,
) -> int:
    """Do what `submit` sends, in one process per GPU."""
    return terminal.workers.run_worker(pool, gpus, processes, metrics)


@app.command()
def submit(
    job: JobFile,
    only: Only = None,
    from_stage: FromStage = None,
    select: Select = None,
    settings: Varied = None,
    retry_failed: RetryFailed = False,
    shards: Shards = 1,
    pool: Pool = "adaptivedrag",
    watch: Followed = False,
    force: Force = False,
    max_failures: MaxFailures = None,
    stage_timeout: StageTimeout = None,
    batch: Batch = "auto",
    compile: Compile = False,
    channels_last: ChannelsLast = False,
    store: Store = STORE,
    out: Place = None,
    device: Device = "cpu",
) -> int:
    """Have workers make what is missing of a job."""
    request = terminal.run.request_of(
        settings=settings or [],
        only=only,
        from_stage=from_stage,
        retry_failed=retry_failed,
        max_failures=max_failures,
        force=force,
        stage_timeout=stage_timeout,
        batch=batch,
        compile=compile,
        channels_last=channels_last,
        device=device,
    )
    return terminal.workers.submit_job(
        job, store, request, select or [], shards, pool, out, watched=watch
    )


if __name__ == "__main__":
    app()
