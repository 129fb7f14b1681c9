"""A training job that is killed and run again through Snakemake ends as if nothing had happened, to the last bit."""

import pytest
from kill_lab import FINE_TUNES, Campaign, Job, Lab, pretrained_methods


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
