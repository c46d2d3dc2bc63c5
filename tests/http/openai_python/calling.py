"""What the tests of OpenAI's client ask, and its asynchronous form."""

import asyncio

from openai import AsyncOpenAI

from tests.process import END, KEY
from tests.support import until

ASKED = [{"role": "user", "content": "one two three"}]
SIM = "sim:ttft_ms=5,interval_ms=1,tokens=20"
ROUTE = "/v1/chat/completions"


def in_async(service, scenario):
    """Run `scenario(client)` with the asynchronous client."""

    async def main():
        async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0, timeout=END) as sdk:
            return await scenario(sdk)

    return asyncio.run(main())


def rises(service, name, before, **labels):
    """Wait until a metric is above what it was."""
    until(lambda: service.metric(name, **labels) > before, what=f"{name} did not rise")
