"""Evaluations of a house: how their samples went, and what they found."""

from telemetry import catalogue as rows
from tests.flow.jobs import ended


async def evaluations(house, tenant="demo"):
    """The evaluations of a tenant that are known, newest first."""
    return [job for job in await house.workforce.desk.page(tenant, None, 100) if job.kind == "evaluation"]


async def sampled(house, count=1):
    """Wait until so many turns were sampled, and return how that ended."""
    seen = house.recorder
    await house.until(lambda: seen.value(rows.EVALUATIONS_SAMPLED_TOTAL) >= count)
    return {one: seen.value(rows.EVALUATIONS_SAMPLED_TOTAL, one) for one in ("queued", "refused", "failed")}


async def judged(house):
    """Wait until the one evaluation of the house has ended; return it with its scores by evaluator."""
    await sampled(house)
    (job,) = await evaluations(house)
    job, result = await ended(house, job.job_id)
    assert job.status == "completed"
    return job, {score["evaluator"]: (score["score"], score["label"]) for score in result["scores"]}
