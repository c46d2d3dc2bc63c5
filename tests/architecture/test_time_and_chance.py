"""Time, randomness and ids come from outside, so that a run can be repeated; tests wait for events, not for time."""

from __future__ import annotations

import ast

from tests.architecture.source import called, full_names, sources

WORLD = "service/runtime/world.py"

# Processes of their own, without an event loop: nothing in virtual time ever runs there.
WITHOUT_A_LOOP = {"service/server/supervisor.py", "service/providers/local_child.py"}

# Tests that meet the machine as it is; elsewhere the line says why it must.
REAL = ("tests/http/", "tests/e2e/", "tests/contract/", "tests/benchmarks/")
REASON = "# real time: "


def test_the_service_asks_the_world_for_time_chance_and_ids():
    found = [
        source.at(node, name)
        for source in sources("service")
        if source.name != WORLD
        for node, name in _calls(source, source.tree)
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
    found = [
        source.at(node, name)
        for source in sources("tests")
        if not source.name.startswith(REAL)
        for node, name in _waits(source)
        if REASON not in source.line(node)
    ]
    assert not found, "\n".join(found)


def _waits(source):
    """Yield the calls of `source` that let real time pass: asyncio.sleep does wherever the loop is asyncio's own."""
    virtual = "tests.virtual_loop.run" in full_names(source.tree).values()
    everywhere = {name for _, name in _calls(source, source.tree)}
    for part in source.tree.body:
        calls = list(_calls(source, part))
        real_loop = "asyncio.run" in ({name for _, name in calls} if virtual else everywhere)
        for node, name in calls:
            if name == "time.sleep" or (name == "asyncio.sleep" and real_loop and not _yields_only(node)):
                yield node, name


def _yields_only(node):
    return node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0


def _calls(source, part):
    names = full_names(source.tree)
    for node in ast.walk(part):
        if isinstance(node, ast.Call):
            yield node, called(node, names)
