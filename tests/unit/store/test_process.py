"""Telling a process from one that has gone, or that got its number."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from service.store.process import is_running, this_process
from service.store.values import Process

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")


def test_this_process_runs_and_is_the_same_each_time():
    assert this_process() == this_process()
    assert this_process().pid == os.getpid()
    assert is_running(this_process())


def test_another_process_with_the_same_number_is_not_it():
    assert not is_running(replace(this_process(), started="1"))


def test_a_killed_process_does_not_run_even_before_its_parent_noticed():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
        process = Process(this_process().host, child.pid, started)
        assert is_running(process)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and left for the parent to collect
        assert not is_running(process)
    assert not is_running(process)


def test_where_nothing_is_known_of_processes_nobody_is_told_apart(monkeypatch, tmp_path):
    monkeypatch.setattr("service.store.process._PROC", tmp_path)
    assert this_process() == Process()
