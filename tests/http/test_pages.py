"""The pages in a real browser: what a developer sees who meets Forebay for the first time."""

import re

import httpx
import pytest

from service.chat.events import EVENTS
from tests.browser import Browser
from tests.process import KEY, SIMULATED, Service

CONFIG = (
    '[budgets]\nfirst_token_ms = 3000\n[telemetry]\ntrace_url = "http://traces.test/trace/{trace_id}"\n' + SIMULATED
)
FILES = ("/", "/docs", "/web/playground.js", "/web/base.css", "/web/mark.svg")


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(tmp_path_factory.mktemp("pages"), CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with Browser() as running:
        yield running


@pytest.fixture
def page(browser, service):
    browser.open(service.url)
    browser.run("sessionStorage.clear()")
    browser.open(service.url)
    browser.until("document.querySelector('#version').innerText")
    browser.said.clear()
    browser.asked.clear()
    return browser


@pytest.fixture
def playground(page):
    page.fill("#key", KEY)
    page.until("document.querySelector('#key-state').innerText === 'accepted'")
    return page


def ask(page, message="What is case C-1042 about?", model="sim:tokens=20,interval_ms=5", grounding=""):
    for field, value in (("#message", message), ("#model", model), ("#grounding", grounding)):
        page.fill(field, value)
    page.click("#send")


def ended(page):
    page.until("document.querySelector('.turn') && !document.querySelector('.running')")


def test_an_answer_grows_beside_its_phases_events_and_citations(playground):
    ask(playground, grounding="required", model="sim")
    playground.until("document.querySelector('.running .answer')?.innerText.length > 20")
    ended(playground)
    assert "Lumen 20" in playground.text(".answer")
    assert playground.run("document.querySelectorAll('.documents li.cited').length") > 0
    assert playground.text(".about").startswith("completed")
    phases = playground.run("[...document.querySelectorAll('.phase .name')].map(name => name.innerText)")
    assert [name for name in phases if name in {"policy.check", "retrieval.query", "model.stream", "finalize"}] == [
        "policy.check", "retrieval.query", "model.stream", "finalize"
    ]  # fmt: skip
    log = playground.text("#log")
    assert all(
        event in log
        for event in (
            "message_start",
            "retrieval_completed",
            "token_delta \N{MULTIPLICATION SIGN}",
            "message_completed",
        )
    )
    assert playground.text("#tile-first").endswith("ms")
    link = playground.run("document.querySelector('#trace a').href")
    assert re.fullmatch(r"http://traces\.test/trace/[0-9a-f]{32}", link)


def test_a_phase_that_ran_out_of_budget_shows_it(playground):
    ask(playground, model="sim:ttft_ms=60000")
    ended(playground)
    assert playground.text(".note.bad b") == "timeout"
    row = "[...document.querySelectorAll('.phase.bad')].map(row => row.innerText).join()"
    assert "model.stream" in playground.run(row)


def test_stop_closes_the_connection_and_the_turn_is_cancelled(playground, service):
    before = service.metric("forebay_cancellations_total", cause="client_disconnect")
    ask(playground, model="sim:stall_at=5")
    playground.until("document.querySelector('.answer')")
    playground.click("#stop")
    ended(playground)
    assert "connection closed" in playground.text(".about")
    service.comes_to(before + 1, "forebay_cancellations_total", cause="client_disconnect")


def test_cancel_ends_the_stream_with_an_error(playground):
    ask(playground, model="sim:stall_at=5")
    playground.until("document.querySelector('.answer')")
    playground.click("#cancel")
    ended(playground)
    assert playground.text(".note.bad b") == "cancelled"


def test_a_refusal_is_shown_as_it_is(playground):
    ask(playground, model="unknown")
    ended(playground)
    assert playground.text(".note.bad").startswith("not_found No such model")


def test_a_call_that_waits_is_approved_on_the_page(playground):
    ask(playground, model="sim:tool=open_escalation_review")
    playground.until("document.querySelector('#approvals .decide button')")
    assert playground.text(".turn .tool .chip") == "awaiting_approval"
    playground.click("#approvals .decide button.primary")
    ended(playground)
    assert playground.text(".turn .tool .chip") == "completed"


def test_the_key_is_kept_for_the_tab_alone_and_a_wrong_one_is_told(page):
    page.fill("#key", "no")
    page.until("document.querySelector('#key-state').className === 'bad'")
    assert page.text("#key-state") == "A valid API key is needed"
    page.fill("#key", KEY)
    page.until("document.querySelector('#key-state').innerText === 'accepted'")
    assert page.run("sessionStorage['forebay.key']") == KEY
    assert page.run("localStorage.length + document.cookie.length") == 0


def test_the_pages_load_nothing_from_elsewhere_and_break_no_rule_of_their_policy(playground, service):
    ask(playground)
    ended(playground)
    playground.open(f"{service.url}/docs")
    playground.until("document.querySelector('section')")
    assert all(address.startswith(service.url) for address in playground.asked)
    assert playground.said == []


def test_the_reference_has_every_route_and_every_event(page, service):
    document = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()
    page.open(f"{service.url}/docs")
    page.until("document.querySelector('section')")
    shown = page.text("#reference")
    assert [path for path in document["paths"] if path not in shown] == []
    assert [event.type for event in EVENTS if event.type not in page.text("#schema-ChatEvent")] == []


@pytest.mark.parametrize("path", FILES)
def test_every_file_of_the_pages_comes_with_the_policy(service, path):
    answer = httpx.get(service.url + path, trust_env=False)
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/web/__init__.py", "/web/index.html", "/web/..%2Fapp.py", "/web/none.js", "/web/x"])
def test_nothing_else_is_served_as_a_file(service, path):
    assert httpx.get(service.url + path, trust_env=False).status_code == 404


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_no_page_has_a_script_or_style_inline(service, path):
    page = httpx.get(service.url + path, trust_env=False).text
    assert re.findall(r"<script[^>]*>", page) == re.findall(r'<script type="module" src="/web/\w+\.js">', page) != []
    assert not re.search(r"<style|\sstyle=|\son\w+=", page)
