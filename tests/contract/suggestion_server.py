"""A service of suggestions for tests, as an operator would write it: on a port of its own, and able to misbehave."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SEE_ALSO = {"id": "C-7", "title": "Case C-7", "labels": ["internal"], "score": 0.5}


class SuggestionServer:
    """Answers `status` and `body`, after `hangs` is over; `asked` has what came: (headers, question)."""

    def __init__(self):
        self.status, self.body = 200, json.dumps({"suggestions": [SEE_ALSO]}).encode()
        self.asked = []
        self.free = threading.Event()
        self.free.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/suggest"

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.free.set()
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def _handler(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                server.asked.append((dict(self.headers), json.loads(body)))
                server.free.wait(30)
                self.send_response(server.status)
                self.send_header("Content-Length", str(len(server.body)))
                self.end_headers()
                self.wfile.write(server.body)

            def log_message(self, *_):
                pass

        return Handler
