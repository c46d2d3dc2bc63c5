"""What a start sees of its own settings."""

from __future__ import annotations

import pytest

from service.doctor import Fault, here
from service.settings import Settings


def test_limits_of_a_tool_that_is_not_there_are_refused_with_the_names_of_those_that_are():
    with pytest.raises(Fault, match=r"\[tools.nope\]: there is no such tool: the tools are .*case_lookup"):
        here.tools(Settings(tools={"case_lookup": {}, "nope": {}}))


def test_limits_of_tools_that_ship_and_of_servers_are_taken():
    server = {"name": "files", "command": ["files"], "tools": ["read_file"]}
    here.tools(Settings(mcp=[server], tools={"case_lookup": {}, "read_file": {}}))


def test_a_server_s_tool_cannot_have_the_name_of_one_that_ships():
    server = {"name": "files", "command": ["files"], "tools": ["case_lookup"]}
    with pytest.raises(Fault, match="a tool that ships is called case_lookup too"):
        here.tools(Settings(mcp=[server]))
