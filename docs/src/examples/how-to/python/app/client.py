"""Calls a payment service: client.py https://HOST [SECONDS], once, or repeatedly every SECONDS seconds."""

import signal
import ssl
import sys
import time
from http.client import HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from identity import Identity


def call(url, identity):
    connection = HTTPSConnection(url.hostname, url.port, timeout=10, context=identity.context())
    try:
        # Verifies the server's certificate for this host name.
        connection.connect()
        server = connection.sock.getpeercert()["serialNumber"].lower()
        connection.request("GET", url.path or "/")
        answer = connection.getresponse()
        print(answer.status, answer.read().decode().strip() + ", by server", server, flush=True)
        return answer.status == 200
    except (OSError, HTTPException) as error:
        print("failed:", error, flush=True)
        return False
    finally:
        connection.close()


signal.signal(signal.SIGTERM, lambda *_: sys.exit())
url = urlsplit(sys.argv[1])
identity = Identity(ssl.Purpose.SERVER_AUTH)
paid = call(url, identity)
while len(sys.argv) > 2:
    time.sleep(float(sys.argv[2]))
    call(url, identity)
sys.exit(0 if paid else 1)
