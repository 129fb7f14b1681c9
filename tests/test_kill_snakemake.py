"""A training job that is killed and run again through Snakemake ends as if nothing had happened, to the last bit."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kill_lab import FINE_TUNES, Campaign, Job, Lab, pretrained_methods

PROGRAM = """#!/bin/sh
echo started > {started}
exec cat {held}
"""


def test_one_sigterm_ends_snakemake_with_its_jobs_and_unlocks_the_folder(snakemake, copy_project, tmp_path):
    """The job is a program that never ends by itself, in the place of Python."""
    project = copy_project(tmp_path / "project")
    started, held, program = (tmp_path / name for name in ("started", "held", "bin/python"))
    os.mkfifo(started)
    os.mkfifo(held)
    program.parent.mkdir()
    program.write_text(PROGRAM.format(started=started, held=held))
    program.chmod(0o755)
    command = [Path(sys.executable).with_name("snakemake"), "results/tables/table1.md", "--cores", "1"]
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    reader = os.open(started, os.O_RDONLY | os.O_NONBLOCK)
    with subprocess.Popen(command, cwd=project, env=environment, start_new_session=True) as running:
        try:
            assert select.select([reader], [], [], 120)[0], "the job has not begun"
            os.killpg(running.pid, signal.SIGTERM)
            assert running.wait(timeout=60) != 0
        finally:
            os.close(reader)
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
    done = snakemake("results/tables/table1.md", "--cores", 1, folder=project)
    assert done.code == 0, done.output


def test_killed_and_run_again_a_job_ends_bit_for_bit_as_an_unbroken_one(demo, tmp_path):
    jobs = [Job("refers", wanted=2), Job(FINE_TUNES[0], wanted=2)]
    campaign = Campaign(Lab(tmp_path, demo), jobs, reach=0.6)
    campaign.unbroken()
    campaign.round()
    campaign.crash()
    campaign.finish()
    assert sum(job.kills.total() for job in jobs) > 1
    assert {job.name: job.lost for job in jobs} == {job.name: [] for job in jobs}


@pytest.mark.kill
def test_twenty_kills_of_every_method_lose_nothing(demo, tmp_path):
    jobs = [Job(name, wanted=20) for name in [*pretrained_methods(), *FINE_TUNES]]
    campaign = Campaign(Lab(tmp_path, demo), jobs)
    campaign.run()
    print(campaign.table())
    assert {job.name: job.lost for job in jobs} == {job.name: [] for job in jobs}
    assert all(job.kills.total() >= 20 for job in jobs)
    assert max(job.slowest_exit for job in jobs) < 10
