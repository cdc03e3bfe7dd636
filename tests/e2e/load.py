"""A client of the endpoint, which runs in a pod: short answers and long streams, one after another, until it is told to
stop. The last line of its log is a JSON object with what became of them."""

import http.client
import json
import os
import sys
import threading
from typing import Any

STOP_FILE = "/tmp/stop"
"""In the pod."""
MOST_REQUESTS = 20_000
SECONDS = 180
"""Longest wait for the next byte."""
SLOW_MARK = "slow"
"""In the query of requests for long streams, for the rule that makes them long."""

done: dict[str, int] = {"whole": 0, "streams": 0}
lost: list[str] = []
lock = threading.Lock()


def main() -> None:
    """Arguments: host and port, the model, and how many threads ask for streams and for short answers."""
    host, port, model, streams, short = sys.argv[1:]
    kinds = [True] * int(streams) + [False] * int(short)
    threads = [threading.Thread(target=ask_on, args=(host, int(port), model, kind)) for kind in kinds]
    for thread in threads:
        thread.start()
    print("asking", flush=True)
    for thread in threads:
        thread.join()
    print(json.dumps({**done, "lost": lost}), flush=True)


def ask_on(host: str, port: int, model: str, stream: bool) -> None:
    """One request after another, each over a connection of its own."""
    while not os.path.exists(STOP_FILE) and sum(done.values()) < MOST_REQUESTS:
        try:
            ask(host, port, model, stream)
        except (OSError, http.client.HTTPException, ValueError) as error:
            with lock:
                lost.append(f"{'stream' if stream else 'answer'}: {type(error).__name__}: {error}")
        else:
            with lock:
                done["streams" if stream else "whole"] += 1
        threading.Event().wait(0.1)


def ask(host: str, port: int, model: str, stream: bool) -> None:
    """Raises OSError, HTTPException, ValueError if the answer is not whole."""
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
        path = f"/v1/chat/completions{f'?{SLOW_MARK}' if stream else ''}"
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise ValueError(f"status {answer.status}")
    if stream and not text.endswith("data: [DONE]\n\n"):
        raise ValueError("the stream has no end")
    if not stream:
        json.loads(text)


if __name__ == "__main__":
    main()
