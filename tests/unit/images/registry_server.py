"""A registry on loopback, honest or not, in memory. What it was asked stands in `seen`."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass
class FakeRegistry:
    """State and misbehaviour of a registry.

    Attributes:
        basic: The `Authorization` that it wants.
        bearer: The token that it wants; it is to be had at `/token`, for `basic`.
        referrers: Whether it has the referrers API of distribution-spec 1.1.
        lies: Bytes that it sends in place of what was asked for, by path.
        moved: Paths that it answers with a redirect.
        realm: Where it says that tokens are to be had, if not at `/token`.
        upload: Where it wants uploads.
        promises: How many more bytes it announces than it sends.
        stored: What it says that it stored, where that is not the truth.
        encoding: `Content-Encoding` of all that it sends.
        token_answer: What it sends in place of a token.
    """

    basic: str = ""
    bearer: str = ""
    referrers: bool = True
    lies: dict[str, bytes] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    realm: str = ""
    encoding: str = ""
    upload: str = "/v2/a/b/blobs/uploads/1?state=x"
    promises: int = 0
    stored: str = ""
    token_answer: bytes = b""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    host: str = ""


@contextmanager
def serving(registry: FakeRegistry) -> Iterator[FakeRegistry]:
    """Serve a registry for as long as the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self.answer()

        do_GET = do_POST = do_PUT = do_HEAD  # noqa: N815

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            authorization = self.headers.get("Authorization", "")
            url = urlsplit(self.path)
            registry.seen.append((self.command, url.path, authorization))
            if url.path == "/token":
                self.give_token(authorization)
            elif registry.bearer and authorization != f"Bearer {registry.bearer}":
                realm = registry.realm or f"http://{registry.host}/token"
                self.send(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="s",scope="repository:a/b:pull"'})
            elif registry.basic and not registry.bearer and authorization != registry.basic:
                self.send(401, {"WWW-Authenticate": 'Basic realm="r"'})
            elif url.path in registry.moved:
                self.send(307, {"Location": registry.moved[url.path]})
            elif url.path in registry.lies:
                self.send(200, {}, registry.lies[url.path])
            else:
                self.route(url.path, parse_qs(url.query), body)

        def give_token(self, authorization: str) -> None:
            if registry.basic and authorization != registry.basic:
                self.send(403, {})
            else:
                self.send(200, {}, registry.token_answer or json.dumps({"token": registry.bearer}).encode())

        def route(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
            kind, _, reference = path.removeprefix("/v2/a/b/").partition("/")
            if self.command == "POST":
                self.send(202, {"Location": registry.upload})
            elif self.command == "PUT" and kind == "blobs":
                (digest,) = query["digest"]
                good = digest == "sha256:" + hashlib.sha256(body).hexdigest()
                registry.blobs.update({digest: body} if good else {})
                self.send(201 if good else 400, {})
            elif self.command == "PUT":
                registry.manifests[reference] = body
                has_subject = registry.referrers and "subject" in json.loads(body)
                said = {"Docker-Content-Digest": registry.stored} if registry.stored else {}
                self.send(201, ({"OCI-Subject": "yes"} if has_subject else {}) | said)
            elif kind == "referrers":
                found = [
                    m
                    for m in registry.manifests.values()
                    if json.loads(m).get("subject", {}).get("digest") == reference
                ]
                index = {"manifests": [{"digest": "sha256:" + hashlib.sha256(m).hexdigest()} for m in set(found)]}
                self.send(200 if registry.referrers else 404, {}, json.dumps(index).encode())
            else:
                data = (registry.blobs if kind == "blobs" else registry.manifests).get(reference)
                self.send(404 if data is None else 200, {}, data or b"")

        def send(self, code: int, headers: dict[str, str], body: bytes = b"") -> None:
            self.send_response(code)
            if registry.encoding:
                self.send_header("Content-Encoding", registry.encoding)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) + registry.promises))
            self.end_headers()
            self.close_connection = bool(registry.promises)
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
