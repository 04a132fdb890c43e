"""A payment service that accepts the callers in ALLOWED_CALLERS, and no others."""

import os
import signal
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from identity import Identity

ALLOWED_CALLERS = os.environ["ALLOWED_CALLERS"].split(",")


class Payments(BaseHTTPRequestHandler):
    def do_GET(self):
        certificate = self.connection.getpeercert()
        ids = [name for kind, name in certificate["subjectAltName"] if kind == "URI"]
        caller = ids[0] if len(ids) == 1 else None
        if caller in ALLOWED_CALLERS:
            self.answer(200, f"paid, {caller} with certificate {certificate['serialNumber'].lower()}")
        else:
            self.answer(403, f"{caller} may not pay")

    def answer(self, status, sentence):
        print(status, sentence, flush=True)
        body = f"{sentence}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        """Logs nothing, because answer() logs each request."""


class Server(ThreadingHTTPServer):
    daemon_threads = False
    identity = Identity(ssl.Purpose.CLIENT_AUTH)

    def finish_request(self, request, client_address):
        """Runs in a thread for each connection, so that a slow handshake does not block others."""
        request.settimeout(10)
        with self.identity.context().wrap_socket(request, server_side=True) as connection:
            super().finish_request(connection, client_address)

    def handle_error(self, request, client_address):
        print("rejected", client_address[0], sys.exc_info()[1], flush=True)


server = Server(("", 8443), Payments)
server.identity.context()
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
# Finishes open requests.
server.server_close()
