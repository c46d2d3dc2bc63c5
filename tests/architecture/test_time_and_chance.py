"""Time, randomness and ids come from outside, so that a run can be repeated; tests wait for events, not for time."""

from __future__ import annotations

import ast

from tests.architecture.source import called, full_names, sources

WORLD = "service/runtime/world.py"

# Processes of their own, without an event loop: nothing in virtual time ever runs there.
WITHOUT_A_LOOP = {"service/server/supervisor.py", "service/providers/local_child.py"}

# Tests that meet the machine as it is, and what else has nothing to wait on.
REAL = ("tests/http/", "tests/e2e/", "tests/contract/", "tests/benchmarks/")
POLLS = {"tests/conftest.py": "the machine tells nobody that a process has gone"}


def test_the_service_asks_the_world_for_time_chance_and_ids():
    found = [
        source.at(node, name)
        for source in sources("service")
        if source.name != WORLD
        for node, name in _calls(source)
        if _is_the_machines(node, name) and not (name.startswith("time.") and source.name in WITHOUT_A_LOOP)
    ]
    assert not found, "\n".join(found)


def _is_the_machines(node, name):
    module, _, function = name.partition(".")
    if module == "time":
        return function.removesuffix("_ns") in {"time", "monotonic", "perf_counter", "process_time", "sleep"}
    if module == "random":
        return not (function == "Random" and node.args)  # with a seed it is a pure function
    return module == "uuid" or name.startswith(
        ("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today")
    )


def test_tests_in_virtual_time_never_wait_for_real():
    found = []
    for source in sources("tests"):
        if source.name.startswith(REAL) or source.name in POLLS:
            continue
        calls = list(_calls(source))
        on_a_real_loop = any(name == "asyncio.run" for _, name in calls)
        found += [source.at(node, name) for node, name in calls if name == "time.sleep"]
        found += [
            source.at(node, name) for node, name in calls if name == "asyncio.sleep" and on_a_real_loop and _waits(node)
        ]
    assert not found, "\n".join(found)


def _waits(node):
    return not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)


def _calls(source):
    names = full_names(source.tree)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            yield node, called(node, names)
