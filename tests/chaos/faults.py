"""Actions of the fault proxy."""

import asyncio
from collections.abc import Callable

from tests.chaos.proxy import Action, Answer, Exchange, complete

HTML = b"<html><head><title>Sign in</title></head><body><p>Welcome</p></body></html>"
ERROR = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>on demand</Message></Error>"
TRICKLED_BYTES = 5


def answers(status: int, body: bytes = b"", **headers: str) -> Action:
    """Another answer; the server is not asked."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(complete(status, body, **headers))

    return act


def refuses(status: int, code: str) -> Action:
    """An error of OSS."""
    return answers(status, f"<Error><Code>{code}</Code><Message>on demand</Message></Error>".encode())


def changes(change: Callable[[Answer], Answer], *, then_close: bool = False) -> Action:
    """The server's answer, changed; the request was carried out."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(change(await exchange.forward()), then_close=then_close)

    return act


def replaces(status: int, body: bytes = b"") -> Action:
    """The request is carried out, and answered by something else."""
    return changes(lambda answer: complete(status, body))


def having(**headers: str | None) -> Action:
    """Other headers."""
    return changes(lambda answer: answer.having(**headers))


def flips_answer(offset: int) -> Action:
    """One bit of the answer's body."""
    return changes(lambda answer: Answer(status=answer.status, headers=answer.headers, body=flip(answer.body, offset)))


def flips_request(offset: int) -> Action:
    """One bit of the request's body."""

    async def act(exchange: Exchange) -> None:
        exchange.body = flip(exchange.body, offset)
        await exchange.send(await exchange.forward())

    return act


def flip(body: bytes, offset: int) -> bytes:
    """``body`` with another bit, at a place that it has."""
    if not body:
        return body
    place = offset % len(body)
    return body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


def cuts(share: float, *, reset: bool = False) -> Action:
    """The head and a part of the body, then the end of the connection."""

    async def act(exchange: Exchange) -> None:
        answer = await exchange.forward()
        exchange.writer.write(answer.head + answer.body[: int(len(answer.body) * share)])
        await exchange.writer.drain()
        if reset:
            exchange.reset()
        else:
            exchange.writer.close()

    return act


def trickles(*, head: bool = False) -> Action:
    """A few single bytes, then the end of the connection."""

    async def act(exchange: Exchange) -> None:
        answer = await exchange.forward()
        whole = answer.head + answer.body
        start = 0 if head else len(answer.head)
        exchange.writer.write(whole[:start])
        for byte in whole[start : start + TRICKLED_BYTES]:
            exchange.writer.write(bytes([byte]))
            await exchange.writer.drain()
            await asyncio.sleep(0.02)
        exchange.writer.close()

    return act


async def resets(exchange: Exchange) -> None:
    """Nothing is carried out."""
    exchange.reset()


async def loses_answer(exchange: Exchange) -> None:
    """The request is carried out."""
    await exchange.forward()
    exchange.reset()


async def loops(exchange: Exchange) -> None:
    """A redirect to the same address."""
    await exchange.send(complete(302, location=f"{exchange.proxy.url}{exchange.target}"))


async def chunked_page(exchange: Exchange) -> None:
    """A page of a proxy in between, of unknown length."""
    chunk = f"{len(HTML):x}\r\n".encode() + HTML + b"\r\n0\r\n\r\n"
    await exchange.send(Answer(body=chunk).having(transfer_encoding="chunked"))
