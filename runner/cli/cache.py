"""`daskflow cache …`: look at stored results, find out why something ran again, clean up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import click

from daskflow.caching.index import Entry
from daskflow.caching.store import ResultStore
from daskflow.caching.store_format import algorithm_of_store
from daskflow.config import get_settings
from daskflow.errors import NotFoundError, UsageError
from daskflow.results.storage import Storage
from daskflow.results.storage_options import ResultStorage
from daskflow.runner.cache_defaults import chosen_storage
from daskflow.runner.cache_status import read_status
from daskflow.runner.cli.cache_history import MadeBefore
from daskflow.runner.cli.cache_why import Why, why_of
from daskflow.runner.cli.output import json_option, print_json, print_table
from daskflow.runner.cli.record import numbers_of, opened_store
from daskflow.runner.cli.sizes import AGE, SIZE, size_text
from daskflow.runner.cli.summary import run_names
from daskflow.runner.cli.text import clock, duration, one_line

__all__ = ["cache"]

_RECENT = 200  # flow runs that hit rates are counted over
storage_option = click.option(
    "--storage", metavar="URL", help="The result store; default: the one of the settings."
)


@click.group()
def cache() -> None:
    """Look at stored results, and clean up.

    KEY is a cache key or a unique beginning of one.
    """


def result_store(asked: str | ResultStorage | None) -> ResultStore:
    """Return the result store that is asked for, or that of the settings."""
    results = get_settings().results
    secret = results.secret.get_secret_value().encode() if results.secret else None
    known = ResultStorage(results.storage, results.storage_options)
    asked = ResultStorage(asked) if isinstance(asked, str) else asked or known
    url, options = chosen_storage(asked, known)
    storage = Storage(url, options, results.timeout_seconds)
    return ResultStore(
        url,
        secret=secret,
        allow_pickle=results.allow_pickle,
        hash_algorithm=algorithm_of_store(storage) or results.hash_algorithm,
        options=options,
        timeout_s=results.timeout_seconds,
    )


@cache.command("ls")
@click.option("--task", help="Only results of this task.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many."
)
@storage_option
@json_option
def ls(task: str | None, limit: int, storage: str | None, as_json: bool) -> None:
    """List stored results, newest first."""
    store = result_store(storage)
    found = [entry.without_payload() for entry in store.entries() if task in (None, entry.task)]
    found.sort(key=lambda entry: -entry.created_unix)
    if as_json:
        for entry in found[:limit]:
            print_json(entry_as_dict(entry))
    elif found:
        header = ("key", "task", "size", "codec", "created", "took")
        print_table(header, [_row(entry) for entry in found[:limit]])
    else:
        click.echo(f"no stored results in {store.storage.shown_url}", err=True)


def _row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.key[:12],
        one_line(entry.task, 40),
        size_text(entry.size_bytes),
        entry.codec,
        clock(entry.created_unix),
        duration(entry.duration_s),
    )


def entry_as_dict(entry: Entry) -> dict[str, Any]:
    """Return an entry for ``--json``, without its value."""
    columns = entry._asdict()
    del columns["payload"]
    return columns | {"parts": dict(entry.parts)}


@cache.command("stats")
@storage_option
@json_option
def stats(storage: str | None, as_json: bool) -> None:
    """Count stored results by task, with hit rates and time saved from the run record."""
    store = result_store(storage)
    counted = store.stats()
    hits, misses, saved = _record_of_hits()
    tasks = []
    for name in sorted({*counted.tasks, *hits, *misses}):
        of_task = counted.tasks.get(name)
        looked_up = hits[name] + misses[name]
        tasks.append(
            {
                "task": name,
                "entries": of_task.entries if of_task else 0,
                "size_bytes": of_task.size_bytes if of_task else 0,
                "hits": hits[name],
                "executed": misses[name],
                "hit_rate": hits[name] / looked_up if looked_up else None,
                "saved_s": saved[name],
            }
        )
    if as_json:
        print_json({**counted._asdict(), "tasks": tasks})
        return
    click.echo(
        f"{store.storage.shown_url}: {counted.entries:,} results, "
        f"{size_text(counted.size_bytes)} in {counted.blobs:,} blobs and {counted.packs:,} packs"
    )
    if counted.quarantined:
        click.echo(f"{counted.quarantined:,} damaged files are in quarantine")
    if tasks:
        header = ("task", "entries", "size", "hits", "executed", "hit rate", "saved")
        print_table(header, [_stats_row(task) for task in tasks])


def _stats_row(task: dict[str, Any]) -> tuple[str, ...]:
    rate = task["hit_rate"]
    return (
        one_line(task["task"], 40),
        f"{task['entries']:,}",
        size_text(task["size_bytes"]),
        f"{task['hits']:,}",
        f"{task['executed']:,}",
        "-" if rate is None else f"{rate:.0%}",
        duration(task["saved_s"]),
    )


def _record_of_hits() -> tuple[Counter[str], Counter[str], defaultdict[str, float]]:
    """Hits, executions and seconds saved by task, over the last flow runs."""
    hits: Counter[str] = Counter()
    misses: Counter[str] = Counter()
    saved: defaultdict[str, float] = defaultdict(float)
    with opened_store() as record:
        for run in record.flow_runs(limit=_RECENT):
            names = {task.task_number: task.name for task in record.tasks(run.flow_run_id)}
            for row in record.task_runs(run.flow_run_id):
                status = read_status(row.cache)
                if status is None or status.key is None:
                    continue
                name = names.get(row.task_number, "task")
                if status.hit:
                    hits[name] += 1
                    saved[name] += status.saved_s
                else:
                    misses[name] += 1
    return hits, misses, saved


@cache.command("show")
@click.argument("key", metavar="KEY")
@storage_option
@json_option
def show(key: str, storage: str | None, as_json: bool) -> None:
    """Show a stored result: what it is, what its key was made of, where it lies."""
    store = result_store(storage)
    (entry,) = _found(store, [key])
    if as_json:
        print_json(entry_as_dict(entry))
        return
    facts = [
        ("key", entry.key),
        ("task", entry.task),
        ("size", size_text(entry.size_bytes)),
        ("codec", entry.codec),
        ("created", clock(entry.created_unix)),
        ("expires", "never" if entry.expires_unix is None else clock(entry.expires_unix)),
        ("took", duration(entry.duration_s)),
        ("content", entry.content_digest),
        ("lies in", entry.pack or (f"blob {entry.blob}" if entry.blob else "its index row")),
    ]
    for label, text in facts:
        click.echo(f"{label:<12} {one_line(text, 200)}")
    if entry.schema:
        click.echo("\nSCHEMA")
        click.echo("\n".join(one_line(line, 200) for line in entry.schema.splitlines()))
    click.echo("\nKEY IS MADE OF")
    print_table(("part", "digest"), [(part, text[:16]) for part, text in entry.parts.items()])


def _found(store: ResultStore, keys: list[str]) -> list[Entry]:
    """The entries of keys, or of unique beginnings of keys."""
    everything, found = store.keys(), []
    for wanted in keys:
        fits = [key for key in everything if key.startswith(wanted.lower())]
        if not fits:
            raise NotFoundError(
                f"no stored result {wanted!r} in {store.storage.shown_url}; "
                "daskflow cache ls lists them"
            )
        if len(fits) > 1:
            raise UsageError(f"{wanted!r} is the beginning of {len(fits)} keys; write more of it")
        entry = store.lookup(fits, expired=True).get(fits[0])
        if entry is None:
            raise NotFoundError(
                f"the stored result {fits[0]} in {store.storage.shown_url} is damaged, or of "
                "another version; daskflow cache verify reads everything"
            )
        found.append(entry.without_payload())
    return found


@cache.command("why")
@click.argument("ref", metavar="RUN")
@click.argument("task", metavar="TASK")
@storage_option
@json_option
def why(ref: str, task: str, storage: str | None, as_json: bool) -> None:
    """Say why task runs were executed again: what changed, down to the first cause.

    RUN is an id, a unique beginning of one, a name, or @last; TASK is the name of a task, or of one
    of its runs.
    """
    with opened_store() as record:
        run = record.find_flow_run(ref)
        tasks = record.tasks(run.flow_run_id)
        rows = {row.number: row for row in record.task_runs(run.flow_run_id)}
    names = run_names(tasks, rows.values())
    numbers = sorted(numbers_of(task, tasks, names, rows.values()))
    entries: dict[str, Entry] = {}
    by_task: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in result_store(storage).entries():
        entries[entry.key] = entry.without_payload()
        by_task[entry.task].append(entries[entry.key])

    def earlier(entry: Entry) -> list[Entry]:
        # what was made in this flow run itself has other inputs, and was no reason
        before = entry.created_unix if run.started_at is None else run.started_at
        others = [each for each in by_task[entry.task] if each.created_unix < before]
        return sorted(others, key=lambda each: -each.created_unix)

    with opened_store() as record:
        made_at = MadeBefore(record, run)
        answers = [
            why_of(rows[number], rows, names, entries.get, earlier, made_at) for number in numbers
        ]
    for answer in answers:
        if as_json:
            print_json(answer.as_dict())
        else:
            click.echo("\n".join(_told(answer)))


def _told(answer: Why, indent: str = "") -> Iterator[str]:
    yield f"{indent}{answer.task_run}: {answer.verdict}; {'; '.join(answer.because)}"
    for each in answer.upstream:
        yield from _told(each, f"{indent}  ")


@cache.command("rm")
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@click.option("--task", help="All results of this task.")
@click.option("--all", "everything", is_flag=True, help="All results.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@storage_option
@json_option
def rm(
    keys: tuple[str, ...],
    task: str | None,
    everything: bool,
    yes: bool,
    storage: str | None,
    as_json: bool,
) -> None:
    """Remove stored results; their blobs go with the next gc."""
    if bool(keys) + (task is not None) + everything != 1:
        raise UsageError("name keys, or a task by --task, or --all; one of the three")
    store = result_store(storage)
    if keys:
        wanted = [entry.key for entry in _found(store, list(keys))]
    else:
        wanted = [entry.key for entry in store.entries() if everything or entry.task == task]
    if not wanted:
        raise NotFoundError(f"no stored results of task {task!r}" if task else "nothing is stored")
    if not yes and not keys:
        click.confirm(f"remove {len(wanted):,} results?", abort=True, err=True)
    removed = store.remove(wanted)
    if near := get_settings().results.local_cache:
        result_store(near).remove(wanted)  # of this machine
    if as_json:
        print_json({"removed": removed})
    else:
        click.echo(f"removed {removed:,} results")


@cache.command("gc")
@click.option("--max-size", type=SIZE, metavar="SIZE", help="Keep the newest, up to so much.")
@click.option("--older-than", type=AGE, metavar="AGE", help="Remove what is older, such as 30d.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@storage_option
@json_option
def gc(
    max_size: float | None,
    older_than: float | None,
    dry_run: bool,
    storage: str | None,
    as_json: bool,
) -> None:
    """Remove expired and old results and blobs that nobody names, and merge small packs."""
    report = result_store(storage).gc(
        max_size_bytes=None if max_size is None else int(max_size),
        older_than_s=older_than,
        dry_run=dry_run,
    )
    if as_json:
        print_json({**report._asdict(), "entries": [entry.key for entry in report.entries]})
        return
    does = "would remove" if dry_run else "removed"
    click.echo(
        f"{does} {len(report.entries):,} results and {report.blobs:,} blobs, "
        f"{size_text(report.freed_bytes)}; {report.kept_entries:,} results, "
        f"{size_text(report.kept_bytes)}, stay"
    )
    if report.merged_packs:
        click.echo(f"{'would merge' if dry_run else 'merged'} {report.merged_packs:,} packs")


@cache.command("verify")
@storage_option
@json_option
@click.pass_context
def verify(ctx: click.Context, storage: str | None, as_json: bool) -> None:
    """Read every stored result and check it; damaged ones are put aside."""
    report = result_store(storage).verify()
    if as_json:
        print_json(report._asdict())
    else:
        click.echo(f"{report.entries:,} results and {report.blobs:,} blobs were read")
        for path in report.damaged:
            click.echo(f"damaged, put aside: {path}")
        for key in report.missing:
            click.echo(f"its blob is missing: {key}")
    if report.damaged or report.missing:
        ctx.exit(1)
