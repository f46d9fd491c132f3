"""A hub on this machine, as much of it as its clients need to load one repository, `us/mine`."""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Answer:
    status: int
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Hub:
    """Serves the folders of `commits`; branch `main` is at commit `main`. `asked` logs the requests; those with a part
    that is in `failing` are answered with that status."""

    def __init__(self, kind: Literal["models", "datasets"], commits: dict[str, Path], main: str) -> None:
        self.commits, self.main = commits, main
        self.asked: list[str] = []
        self.failing: dict[str, int] = {}
        self._api = f"/api/{kind}/us/mine"
        self._files = "/us/mine/resolve/" if kind == "models" else "/datasets/us/mine/resolve/"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> Answer:
        for part, status in self.failing.items():
            if part in path:
                return Answer(status)
        if path.startswith(self._files):
            revision, name = path.removeprefix(self._files).split("/", 1)
            return self._file(self._commit(revision), name)
        if path.startswith(self._api):
            what, revision, *deeper = [*path.removeprefix(self._api).strip("/").split("/"), "main"]
            if what in ("", "revision"):
                return self._info(self._commit(revision))
            if what == "tree" and len(deeper) < 2:
                return self._tree(self._commit(revision))
        return Answer(404, headers={"X-Error-Code": "EntryNotFound"})

    def _commit(self, revision: str) -> str:
        return self.main if revision == "main" else revision

    def _info(self, commit: str) -> Answer:
        files = [{"rfilename": file.name} for file in self.commits[commit].iterdir()]
        return Answer(200, json.dumps({"id": "us/mine", "sha": commit, "siblings": files, "tags": []}).encode())

    def _tree(self, commit: str) -> Answer:
        listed = [
            {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _digest(file.read_bytes())}
            for file in self.commits[commit].iterdir()
        ]
        return Answer(200, json.dumps(listed).encode())

    def _file(self, commit: str, name: str) -> Answer:
        file = self.commits[commit] / name
        if not file.is_file():
            return Answer(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        content = file.read_bytes()
        return Answer(200, content, {"ETag": f'"{_digest(content)}"', "X-Repo-Commit": commit})


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            hub.asked.append(f"{self.command} {path}")
            answer = hub.answer(path)
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(answer.content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(answer.content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    return Handler
