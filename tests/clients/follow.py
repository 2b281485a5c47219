"""A plain program that writes through redis-py's Sentinel and knows nothing of failovers.

Usage: follow.py GROUP PORT...   (ports of sentinels on loopback)

Writes py:1, py:2, ... until it is killed. Prints `ack N` for each acknowledged write and
`error TEXT` for each failed one.
"""

import sys
import time

from redis.exceptions import RedisError
from redis.sentinel import Sentinel

group, ports = sys.argv[1], [int(port) for port in sys.argv[2:]]
sentinel = Sentinel([("127.0.0.1", port) for port in ports], socket_timeout=0.5)
master = sentinel.master_for(group, socket_timeout=0.5)

number = 0
while True:
    number += 1
    try:
        master.set(f"py:{number}", number)
        print("ack", number, flush=True)
    except RedisError as error:
        print("error", type(error).__name__, error, flush=True)
    time.sleep(0.01)
