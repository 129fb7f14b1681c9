"""Log records of Snakemake as lines: plain ones in a pipe, and below them a live one in a terminal."""

import os
import re
import shutil
import sys
import textwrap
import threading
import time
from collections import Counter
from logging import WARNING, Handler, LogRecord
from typing import Any, TextIO

from snakemake_interface_logger_plugins.base import LogHandlerBase

from snakemake_logger_plugin_refers.dry_run import DryRun
from snakemake_logger_plugin_refers.progress import Job, Progress, last_error, span, tail

WIDTH = 200  # characters of the longest line
LONG = 10.0  # seconds of a job without a GPU that gets a line of its own; shorter ones share one per rule
SILENCE = (
    60.0  # seconds without a line after which one says what runs; twice as many each time, up to half an hour
)
NOISE = re.compile(
    r"Building DAG|Using shell:|Provided (cores|resources|remote)|Rules claiming|Select jobs|Execute \d+ jobs|Conda env\w+: ignored"
    r"|Singularity containers: ignored|Activating (conda|singularity)|Complete log|Elapsed time|Config file .* is extended"
    r"|Assuming unrestricted shared|Workflow has started|Some jobs were triggered by prov|Reasons:|Rules with |\d+ jobs have \w+ prov"
    r"|This was a dry-run|Job \d+ has been submitted|Shutting down|Processed \d+ potential|Write-protecting"
    r"|Exiting because a job execution failed|At least one job did not complete|None$|$"
)


class LogHandler(LogHandlerBase):
    """What a run prints: a line per job, what a failed job says, the table of a dry run, and what the rules report.

    With --verbose or --debug-dag it prints what Snakemake prints without a plugin.
    """

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        settings = self.common_settings
        self.stream = sys.stdout if settings.dryrun else sys.stderr
        self.plain = snakemakes_own(settings) if settings.verbose or settings.debug_dag else None
        self.quiet = {each.name for each in settings.quiet or ()} & {"RULES", "PROGRESS", "ALL"}
        self.progress, self.short = Progress(), {}
        self.dry_run = DryRun() if settings.dryrun else None
        self.status = ""  # how the last shell command failed
        self.written, self.silence = time.monotonic(), SILENCE
        self.writing, self.closed = threading.RLock(), threading.Event()
        self.live = self.stream.isatty() and os.environ.get("TERM") != "dumb" and not settings.dryrun
        if not (self.plain or settings.dryrun or self.quiet):
            threading.Thread(target=self.tick, daemon=True).start()

    # ---- records

    def emit(self, record: LogRecord) -> None:
        try:
            if self.plain:
                self.plain.handle(record)
                return
            event = getattr(record, "event", None)
            with self.writing:
                getattr(self, f"on_{event.name.lower()}" if event else "on_message", self.ignore)(record)
        except BrokenPipeError:
            raise
        except Exception:
            self.handleError(record)

    def ignore(self, record: Any) -> None:
        """Events that no line is made of."""

    def on_message(self, record: Any) -> None:
        if hasattr(record, "work"):
            self.progress.work, self.progress.speed = record.work, record.speed
        elif getattr(record, "answer", False):
            self.write(record.getMessage(), sys.stdout)
        elif not NOISE.match(record.getMessage()) and (record.levelno >= WARNING or "ALL" not in self.quiet):
            self.write(record.getMessage())

    def on_run_info(self, record: Any) -> None:
        counts = {rule: count for rule, count in record.stats.items() if rule != "total"}
        self.progress.total = record.stats["total"]
        self.progress.left_of_rule = Counter(counts)
        if self.dry_run:
            self.dry_run.counts = counts
        elif not self.quiet and self.progress.total > 1:
            # no line ends between a count and its rule
            listed = ", ".join(f"{count}~{rule}" for rule, count in counts.items())
            text = textwrap.fill(f"{self.progress.total} jobs: {listed}", 100, subsequent_indent="    ")
            self.write(text.replace("~", " "))

    def on_job_info(self, record: Any) -> None:
        if self.dry_run:
            self.dry_run.add(record.rule_name, record.reason)
            return
        gpu = bool(dict(record.resources.items()).get("gpu"))
        job = Job(record.rule_name, about(record.wildcards), gpu, record.log)
        self.progress.running[record.jobid] = job

    def on_shellcmd(self, record: Any) -> None:
        if self.common_settings.printshellcmds and getattr(record, "shellcmd", None):
            self.write(record.shellcmd, width=None)

    def on_job_finished(self, record: Any) -> None:
        progress = self.progress
        if job := progress.end(record.job_id):
            count, seconds = self.short.pop(job.rule, (0, 0.0))
            if job.gpu or job.elapsed >= LONG or progress.total == 1:
                self.report(job.title, job.elapsed)
            else:
                count, seconds = count + 1, seconds + job.elapsed
            if count and progress.left_of_rule[job.rule]:
                self.short[job.rule] = count, seconds
            elif count:
                self.report(f"{job.rule} ({count} jobs)" if count > 1 else job.title, seconds)

    def on_progress(self, record: Any) -> None:
        progress = self.progress
        progress.done, progress.total = record.done, record.total
        if record.done == record.total > 1 and not self.quiet:
            self.write(f"{record.total} jobs done in {span(time.monotonic() - progress.started)}")

    def on_job_error(self, record: Any) -> None:
        progress = self.progress
        progress.failed += 1
        job = progress.running.pop(record.jobid, None)
        title = job.title if job else record.rule_name
        said = last_error(record.log)
        if not re.match(r"\S*([Ee]rror|Exception)", said):
            # killed, or ended without a word
            ended = self.status or record.rule_msg or "it ended early"
            said = f"{ended}; its last line: {said}" if said else f"{ended}; its log is empty"
        self.status = ""
        self.write(f"{title} failed: {said.removeprefix('error: ')}")
        if record.log:
            self.write(f"  log: {record.log[0]}", width=None)
            if self.common_settings.show_failed_logs:
                self.write(tail(record.log))

    on_group_error = on_message

    def on_error(self, record: Any) -> None:
        text = record.getMessage()
        if found := re.search(r"returned non-zero exit status (\d+)|died with <Signals\.(\w+)", text):
            self.status = f"exit status {found[1]}" if found[1] else f"ended by {found[2]}"
        elif "At least one job did not complete" in text:
            failed = f"{self.progress.failed} job{'s' if self.progress.failed != 1 else ''} failed"
            self.write(f"{failed}, {self.progress.done} of {self.progress.total} jobs done")
        else:
            self.write(essence(text))

    # ---- lines

    def report(self, title: str, seconds: float) -> None:
        """A job, or the short jobs of a rule, have ended."""
        if self.quiet:
            return
        progress = self.progress
        left = progress.seconds_left()
        count = f"{progress.done + 1:{len(str(progress.total))}} of {progress.total}"
        rest = f", about {span(left)} left" if left and progress.done + 1 < progress.total else ""
        self.write(f"{time.strftime('%H:%M')}  {count}  {title}  {span(seconds)}{rest}")

    def write(self, text: str, stream: TextIO | None = None, width: int | None = WIDTH) -> None:
        """Lines above the live one; longer ones than `width` are continued on the next."""
        with self.writing:
            self.clear()
            for line in text.splitlines() or [""]:
                parts = (
                    [line]
                    if width is None or len(line) <= width
                    else textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False)
                )
                print("\n".join(parts), file=stream or self.stream, flush=True)
            self.written, self.silence = time.monotonic(), SILENCE

    def clear(self) -> None:
        if self.live:
            self.stream.write("\r\x1b[K")

    def state(self) -> str:
        """What runs now."""
        jobs = [*self.progress.running.values()]
        titles = [
            job.title + (f" (step {step[0]:,} of {step[1]:,})" if (step := job.step()) else "")
            for job in jobs[:4]
        ]
        more = [f"{len(jobs) - 4} more"] if len(jobs) > 4 else []
        left = self.progress.seconds_left()
        rest = f", about {span(left)} left" if left else ""
        return (
            f"{self.progress.done} of {self.progress.total} jobs{rest}; running: {', '.join(titles + more)}"
        )

    def tick(self) -> None:
        """The live line of a terminal each second; in a pipe a line after a long silence."""
        while not self.closed.wait(1.0):
            with self.writing:
                if not self.progress.running:
                    continue
                if self.live:
                    columns = shutil.get_terminal_size().columns
                    self.stream.write("\r\x1b[K" + self.state()[: columns - 1])
                    self.stream.flush()
                elif time.monotonic() - self.written >= self.silence:
                    silence = min(2 * self.silence, 1800.0)
                    self.write(f"{time.strftime('%H:%M')}  {self.state()}")
                    self.silence = silence

    def close(self) -> None:
        self.closed.set()
        with self.writing:
            self.clear()
            if self.dry_run and self.dry_run.counts and not self.plain:
                self.write(self.dry_run.table())
                self.dry_run = None
        super().close()


def snakemakes_own(settings: Any) -> Handler:
    """The handler that Snakemake takes where no plugin writes to the terminal."""
    from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter

    formatter = DefaultFormatter(settings.quiet, settings.show_failed_logs)
    given = (settings.quiet, settings.debug_dag, settings.verbose, settings.dryrun, settings.printshellcmds)
    stream = sys.stdout if settings.stdout else sys.stderr
    handler = ColorizingTextHandler(settings.nocolor, stream, formatter)
    handler.addFilter(DefaultFilter(*given))
    return handler


def about(wildcards: Any) -> str:
    """What tells a job from the others of its rule."""
    forms = {"ratio": "{} %", "split": "split {}", "seed": "seed {}"}
    return " ".join(forms.get(name, "{}").format(value) for name, value in dict(wildcards).items())


def essence(text: str) -> str:
    """An error's message without the places in the rules that it went through."""
    text = re.sub(r'^ *File ".*\n?', "", text, flags=re.MULTILINE)
    if found := re.match(r"InputFunctionException.*?\nError:\n(.*?)\nWildcards:", text, re.DOTALL):
        text = found[1]
    lines = [
        line
        for line in text.splitlines()
        if line.strip() and not re.match(r"\s*WorkflowError( in |:$)", line)
    ]
    return textwrap.dedent("\n".join(lines)) or text
