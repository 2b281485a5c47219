"""A plain program over redis-py's Sentinel, or valkey-py's, that knows nothing of failovers.

Usage: follow.py redis|valkey GROUP NAME PORT...   (ports of sentinels on loopback)

Writes NAME:1, NAME:2, ... to the master until it is killed, listens to the channel `news` of the
master, and to all events of each sentinel. Prints a line for each thing that happens, with the
time in ms since 1970: `ack MS N`, `error MS TEXT`, `news MS TEXT`, `event MS PORT CHANNEL TEXT`,
and `subscribed MS PORT` whenever a subscription to events begins (once, if it is never lost),
`lost MS PORT ...` when it ends.
"""

import sys
import threading
import time

if sys.argv[1] == "valkey":
    from valkey.exceptions import ValkeyError as RedisError
    from valkey.sentinel import Sentinel
else:
    from redis.exceptions import RedisError
    from redis.sentinel import Sentinel

group, name, ports = sys.argv[2], sys.argv[3], [int(port) for port in sys.argv[4:]]
sentinel = Sentinel([("127.0.0.1", port) for port in ports], socket_timeout=0.5)
master = sentinel.master_for(group, socket_timeout=0.5)
lock = threading.Lock()


def say(what, *rest):
    with lock:
        print(what, time.time_ns() // 1_000_000, *rest, flush=True)


def listen_to_events(port, client):
    events = client.pubsub()
    events.psubscribe("*")
    while True:
        try:
            message = events.get_message(timeout=0.2)
        except RedisError as error:
            say("lost", port, type(error).__name__, error)
            time.sleep(0.05)
            continue
        if message is None:
            continue
        if message["type"] == "psubscribe":
            say("subscribed", port)
        else:
            channel, text = message["channel"].decode(), message["data"].decode()
            say("event", port, channel, text)


def listen_to_news():
    news = master.pubsub()
    news.subscribe("news")
    while True:
        try:
            message = news.get_message(ignore_subscribe_messages=True, timeout=0.2)
            if message is not None:
                say("news", message["data"].decode())
        except RedisError as error:
            say("error", "news:", type(error).__name__, error)
            time.sleep(0.05)


for port, client in zip(ports, sentinel.sentinels):
    threading.Thread(target=listen_to_events, args=(port, client), daemon=True).start()
threading.Thread(target=listen_to_news, daemon=True).start()

number = 0
while True:
    number += 1
    try:
        master.set(f"{name}:{number}", number)
        say("ack", number)
    except RedisError as error:
        say("error", type(error).__name__, error)
    time.sleep(0.01)
