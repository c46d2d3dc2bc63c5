"""Turns asked for under one Idempotency-Key, and what their clients are told."""

KEY = {"idempotency-key": "order-7"}
QUESTION = "What is case C-1042 about?"


async def keyed(house, message=QUESTION, **more):
    return await house.chat(message, **{"headers": KEY, "model": "sim:tokens=8", **more})
