"""The embedded HTTP server: uvicorn with httptools, hardened, so that it can stand without a reverse proxy.

What uvicorn lacks is added by subclassing two of its classes, `HttpToolsProtocol` and `Server`. Neither promises to
stay as it is, so the version is pinned in the lock file, and `tests/http/server` pins what is relied on:

- The protocol: `connections` and `server_state.connections` hold the open ones; `cycle` is the request that was parsed
  last, `pipeline` those that wait behind a running one; `_start_asgi_task(cycle, app)` is the only place that starts
  the application; `on_response_complete` is called once a response is written; a cycle's `disconnected` and
  `message_event` are all that `receive()` looks at; its `chunked_encoding` is true from the head of a chunked answer
  on; `flow.write_paused` says that a write would wait; `flow.resume_reading` undoes the pause for a pipelined request;
  an exception in a parser's callback arrives as the `__context__` of `httptools.HttpParserCallbackError`.
- The server: `on_tick` is called every 0.1 s until `should_exit`; `handle_exit` is the handler of SIGINT and SIGTERM,
  and what it does not note is not raised again at the end; `startup` returns when the listener is open; `shutdown`
  closes idle connections and then runs the lifespan's shutdown, unless `force_exit`.
- The kernel (Linux): an accepted connection inherits its options from the listening socket.

When uvicorn is updated: read the changes of those two classes, then run `tests/http/server`.
"""
