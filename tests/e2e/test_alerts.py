"""Things are broken for real, and the real Prometheus and Alertmanager tell somebody of it; then they are mended.

Each trouble has a service, and so a job, of its own: they go on at the same time and do not get into each other's way.
The rules are the committed ones with their durations shortened.
"""

import asyncio
import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from dashboards.burn import slo_group
from dashboards.causes import CAUSES, cause_group
from dashboards.rules import Alert, Links, rules_file, shortened
from tests.contract.redis_server import RedisServer, until_answering
from tests.e2e.support import PATIENCE, Alertmanager, Inbox, Prometheus, until
from tests.e2e.support_crowd import Crowd
from tests.process import SIMULATED, Service
from tests.telemetry.otlp_sink import OtlpSink

BRIEF = "[server]\ndrain_seconds = 0.2\n"  # the end of a test
WELL = (lambda user: user.ask("sim:ttft_ms=5,tokens=5,interval_ms=5"), 3)
FIRING, RESOLVED = 260.0, 220.0  # seconds until all of them are told; together less than a test may take


@dataclass(frozen=True)
class Trouble:
    """What is done to a service, how it ends, and the alerts that tell of it. Rates are per second."""

    config: str
    fault: tuple
    alerts: tuple[str, ...]
    relief: tuple = (WELL,)


async def work(user):
    """Ask for a report from a model that takes its time."""
    job = {"kind": "report", "input": {"question": "What is case C-1042 about?", "model": "sim:ttft_ms=60000"}}
    async with user.http.post(f"{user.url}/jobs", json=job, headers=user.headers()) as answer:
        await answer.read()


async def call_off(user):
    """Cancel every job."""
    async with user.http.get(f"{user.url}/jobs", headers=user.headers()) as answer:
        jobs = (await answer.json())["jobs"]
    for job in jobs:
        if job["status"] in {"queued", "running"}:
            async with user.http.post(f"{user.url}/jobs/{job['job_id']}/cancel", headers=user.headers()) as answer:
                await answer.read()


TROUBLES = {
    "provider": Trouble(
        "",
        # Of many models, so that no circuit opens: it would send nothing more, and the provider fail no more.
        ((lambda user: user.ask(f"sim:status=503,seed={user.chance.randrange(10**9)}"), 4),),
        ("ForebayTurnsBudgetBurnsFast", "ForebayProviderFails"),
    ),
    "slow": Trouble(
        "[budgets]\nfirst_token_ms = 8000\n",
        ((lambda user: user.ask("sim:ttft_ms=3500,interval_ms=1300,tokens=3"), 3),),
        ("ForebayFirstTokenBudgetBurnsFast", "ForebayTokenGapBudgetBurnsFast"),
    ),
    "leaving": Trouble(
        "",
        ((lambda user: user.leave("sim:ttft_ms=2500", 0), 4),),
        ("ForebayClientsLeaveBeforeFirstToken",),
    ),
    "poor": Trouble(
        "[budgets]\nretrieval_ms = 1\n",
        (WELL,),
        ("ForebayPhaseTimesOut", "ForebayDependencyMissing", "ForebayDegradedBudgetBurnsSlowly"),
        relief=((lambda user: user.complete(), 3),),  # these retrieve nothing
    ),
    "crowded": Trouble(
        "[limits]\nrequests = 2\nqueue = 4\ntenant_queue = 4\n",
        ((lambda user: user.ask("sim:ttft_ms=5,tokens=20,interval_ms=50"), 8),),
        ("ForebaySaturated", "ForebayOverloaded"),
        relief=((WELL[0], 1),),
    ),
    "waiting": Trouble(
        "[budgets]\ntotal_ms = 100000\ngeneration_ms = 90000\nfirst_token_ms = 80000\n[jobs]\nconcurrency = 1\n",
        ((work, 0.5),),
        ("ForebayJobsWait",),
        relief=((call_off, 0.5),),
    ),
}
SHARED = '[limits]\nbackend = "redis"\nredis_url_env = "FOREBAY_TEST_REDIS"\n'  # until that Redis is killed
WORN = ("ForebayStalledReaders", "ForebayEventLoopBlocked", "ForebayTelemetryDropped")
EXPECTED = [
    *((alert, job) for job, trouble in TROUBLES.items() for alert in trouble.alerts),
    *((alert, "worn") for alert in WORN),
    ("ForebayPlacesLeak", "leaking"),
    ("ForebayDependencyGone", "shared"),
    ("ForebayDown", "gone"),
    ("ForebayInstanceDown", "pair"),  # two processes, one of which is gone's
]

SILENCED = {("ForebayTurnsBudgetBurnsSlowly", "provider")}  # beside the page for its fast burn

LEAKING = str(Path(__file__).parent / "leaking")  # no client and no dependency makes a place leak: a planted bug does


async def paused(process):
    """The whole process stands still for a moment, as it does when a machine has too little CPU."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(0.3)
    finally:
        os.kill(process.pid, signal.SIGCONT)


class Night(NamedTuple):
    """What was told, and what was not told since something worse was."""

    inbox: Inbox
    silenced: set


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Everything is broken at once, then everything is mended."""
    folder = tmp_path_factory.mktemp("night")
    with contextlib.ExitStack() as house:
        inbox = house.enter_context(Inbox())
        collector = house.enter_context(OtlpSink(hangs=True))
        worn = f'[budgets]\nemit_ms = 300\n[telemetry]\notlp_endpoint = "{collector.url}"\n'
        configs = {job: trouble.config for job, trouble in TROUBLES.items()}
        configs |= {"worn": worn, "gone": "", "shared": SHARED, "leaking": ""}
        redis = house.enter_context(_redis(folder))
        environ = {job: {"FOREBAY_TEST_REDIS": redis.url} for job in configs}
        environ["leaking"] = {"PYTHONPATH": LEAKING}
        with ThreadPoolExecutor(3) as starting:  # three at a time: each takes a second or two
            begun = {
                job: starting.submit(Service, folder / job, BRIEF + text + SIMULATED, environ=environ[job])
                for job, text in configs.items()
            }
        for one in begun.values():
            if one.exception() is None:  # if one has not started, the others end all the same
                house.enter_context(one.result())
        services = {job: one.result() for job, one in begun.items()}
        manager = house.enter_context(Alertmanager(folder, inbox))
        rules = rules_file([shortened(slo_group()), shortened(cause_group())], Links(), "1s")
        prometheus = house.enter_context(Prometheus(folder, rules=rules, alertmanager=manager))
        crowd = house.enter_context(Crowd())
        _break(services, prometheus, crowd)
        redis.kill()
        with contextlib.suppress(AssertionError):  # which one was not told is said by its own test
            until(lambda: all(inbox.told(name, job) for name, job in EXPECTED), FIRING, "firing")
            until(lambda: manager.silenced() >= SILENCED, FIRING, "silenced")
        silenced = manager.silenced()
        services["gone"] = house.enter_context(Service(folder / "gone", BRIEF + SIMULATED))
        collector.release()
        redis.start()
        _mend(services, prometheus, crowd)
        with contextlib.suppress(AssertionError):
            until(lambda: all(_is_over(inbox, name, job) for name, job in EXPECTED), RESOLVED, "resolved")
        yield Night(inbox, silenced)


@contextlib.contextmanager
def _redis(folder):
    server = RedisServer(folder)
    server.start()
    asyncio.run(until_answering(server))
    try:
        yield server
    finally:
        server.kill()


def _break(services, prometheus, crowd):
    pair = [services["crowded"], services["gone"]]
    prometheus.watch(pair=pair, **{job: [service] for job, service in services.items()})
    scraped, wanted = "count (forebay_build_info) or vector(0)", str(len(services) + 2)
    until(lambda: prometheus.query(scraped)[0]["value"][1] == wanted, PATIENCE, "every service is scraped")
    for job, trouble in TROUBLES.items():
        crowd.does(services[job], *trouble.fault)
    process = services["worn"].process
    crowd.does(services["worn"], WELL, (lambda user: user.stall(), 2), (lambda _: paused(process), 1))
    services["leaking"].process.send_signal(signal.SIGUSR1)
    crowd.does(services["leaking"], WELL)
    services["gone"].kill()


def _mend(services, prometheus, crowd):
    for job, trouble in TROUBLES.items():
        crowd.does(services[job], *trouble.relief)
    crowd.does(services["worn"], WELL)
    services["leaking"].process.send_signal(signal.SIGUSR2)
    crowd.does(services["leaking"])
    prometheus.watch(gone=[services["gone"]], pair=[services["crowded"], services["gone"]])


def _is_over(inbox, name, job):
    return any(alert["status"] == "resolved" for alert in inbox.told(name, job))


@pytest.mark.parametrize(("name", "job"), EXPECTED)
def test_an_alert_is_told_and_told_again_when_it_is_over(night, name, job):
    told = night.inbox.told(name, job)
    assert told, "it did not fire"
    assert told[0]["status"] == "firing"
    assert "resolved" in [alert["status"] for alert in told]  # not the last one: a busy machine makes some fire again
    alert = next(rule for rule in (*slo_group().rules, *CAUSES) if isinstance(rule, Alert) and rule.name == name)
    assert told[0]["severity"] == alert.severity
    assert told[0]["summary"] == alert.summary
    assert told[0]["runbook_url"].endswith(f"#{name.lower()}")
    assert "{{" not in told[0]["description"]
    assert "<no value>" not in told[0]["description"]
    assert job in told[0]["description"]


def test_a_page_silences_the_tickets_of_its_kind(night):
    assert night.silenced >= SILENCED


def test_every_page_and_a_ticket_of_every_family_is_provoked():
    alerts = [rule for rule in (*slo_group().rules, *CAUSES) if isinstance(rule, Alert)]
    provoked = {name for name, _ in EXPECTED}
    assert {alert.name for alert in alerts if alert.severity == "critical"} <= provoked
    tickets = {alert.family for alert in alerts if alert.severity == "warning"}
    shown = {alert.family for alert in alerts if alert.severity == "warning" and alert.name in provoked}
    assert tickets == shown
