#!/usr/bin/env python3
"""Posts events one after the other. Prints the longest stall and the failures.

    stall.py SECONDS KEY URL [URL ...]

Each event goes to the URLs in turn, with the same idempotency key, until one accepts it. Run it
while a node is stopped, killed or added. Needs only Python 3.
"""

import http.client
import json
import sys
import time
import uuid
from urllib.parse import urlsplit


def post(connections, url, key, body, idempotency_key):
    """Posts one event; returns None if accepted, else the status or the name of the error."""
    connection = connections.get(url)
    if connection is None:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)
        connections[url] = connection
    headers = {
        "Content-Type": "application/json",
        "X-API-Key": key,
        "Idempotency-Key": idempotency_key,
    }
    try:
        connection.request("POST", "/v1/events", body, headers)
        answer = connection.getresponse()
        answer.read()
        return None if answer.status == 201 else str(answer.status)
    except (OSError, http.client.HTTPException) as error:
        connections.pop(url).close()
        return type(error).__name__


def main():
    seconds, key, urls = float(sys.argv[1]), sys.argv[2], sys.argv[3:]
    connections, failures, latencies = {}, {}, []
    body = json.dumps({"event_type": "probe", "payload": {"probe": True}})
    turn, began = 0, time.monotonic()
    last = began
    longest = 0.0
    while time.monotonic() - began < seconds:
        idempotency_key, sent = str(uuid.uuid4()), time.monotonic()
        while True:
            failure = post(connections, urls[turn % len(urls)], key, body, idempotency_key)
            if failure is None:
                break
            failures[failure] = failures.get(failure, 0) + 1
            turn += 1
            time.sleep(0.05)
        now = time.monotonic()
        latencies.append(now - sent)
        longest, last = max(longest, now - last), now
        turn += 1
        time.sleep(0.005)
    latencies.sort()
    stall = f"longest stall {longest:.3f} s"
    print(f"accepted {len(latencies)}, {stall}, failures {failures or 'none'}")


main()
