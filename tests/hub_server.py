"""A small Hub on loopback, for the real client: files with commits, and ways to go wrong.

What it answers is what the client reads (huggingface_hub's ``file_download.py``, ``hf_api.py`` and
``_commit_api.py``): large files redirect to a second server, the CDN, as on the public Hub.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_owner"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repository:
    """Commits, oldest first: a name and all files."""

    private: bool = False
    gated: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        """Add a commit, in which the other files stay."""
        before = self.commits[-1][1] if self.commits else {}
        oid = hashlib.sha1(f"{id(self)} {len(self.commits)}".encode()).hexdigest()
        self.commits.append((oid, before | files))
        return oid

    def resolve(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit of a branch, tag or commit name."""
        if revision in ("main", "HEAD"):
            return self.commits[-1] if self.commits else None
        named = self.tags.get(revision, revision)
        return next((row for row in self.commits if row[0] == named), None)


class HubServer:
    """Serves ``repositories`` at ``endpoint``; ``with`` starts and ends it.

    Attributes:
        status: a status for all requests of a method (``HEAD``, ``GET``, ``POST``), None: as it is.
        cut: the CDN breaks off at this byte of a file, ``cuts`` times.
        wrong: the CDN sends other bytes, as many.
        short: the CDN says, and sends, fewer bytes than the Hub said.
        strange: answers lack what makes them a Hub's.
        seen: every request, method and path.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytes] = {}
        self.status: dict[str, int] = {}
        self.cut: int | None = None
        self.cuts = 0
        self.wrong = False
        self.short = False
        self.strange = False
        self.answered_commit = ""
        self.seen: list[tuple[str, str]] = []
        self.ranges: list[str] = []
        self.tokens: list[str | None] = []
        self._servers: list[ThreadingHTTPServer] = []

    def __enter__(self) -> Self:
        hub = self

        class Handler(_Handler):
            server_side = hub

        for _ in ("hub", "cdn"):
            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            self._servers.append(server)
        # Two hosts by name, as some clients look at the host and not at the port.
        self.endpoint, self.cdn = (
            f"http://{host}:{server.server_port}"
            for host, server in zip(("127.0.0.1", "localhost"), self._servers, strict=True)
        )
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def repository(self, name: str, files: dict[str, bytes], **settings: Any) -> Repository:
        """Make a repository with one commit."""
        made = self.repositories[name] = Repository(**settings)
        made.commit(files)
        return made

    def paths(self, method: str) -> list[str]:
        """The paths asked for by a method."""
        return [path for verb, path in self.seen if verb == method]


class _Handler(BaseHTTPRequestHandler):
    server_side: HubServer

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub = self.server_side
        path = unquote(urlsplit(self.path).path)
        if path == "/api/agent-harnesses":
            self.send(404)
            return
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.seen.append((self.command, path))
        hub.tokens.append(self.headers.get("Authorization"))
        if (status := hub.status.get(self.command)) is not None:
            self.send(status, {"Retry-After": "0"} if status == 429 else {})
            return
        routes = (
            (r"/cdn/([0-9a-f]{64})", self.cdn),
            (r"/upload/([0-9a-f]{64})", self.upload),
            (r"/api/repos/create", self.create),
            (r"/api/validate-yaml", lambda: self.reply({"errors": [], "warnings": []})),
            (r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)", self.preupload),
            (r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", self.commit),
            (r"/api/models/([^/]+/[^/]+)(?:/revision/main)?", self.info),
            (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.batch),
            (r"/([^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.+)", self.resolve),
        )
        for pattern, route in routes:
            if found := re.fullmatch(pattern, path):
                route(*found.groups())
                return
        self.send(404)

    # Answers

    def send(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def reply(self, value: Any, status: int = 200) -> None:
        self.send(status, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self.send(status, {"X-Error-Code": code, "X-Error-Message": code} | (headers or {}))

    def owner(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    # Files

    def resolve(self, name: str, revision: str, file: str) -> None:
        hub = self.server_side
        repository = hub.repositories.get(name)
        if repository is None or (repository.private and not self.owner()):
            self.refuse(401, "RepoNotFound")
            return
        if repository.gated and not self.owner():
            self.refuse(403, "GatedRepo")
            return
        if (commit := repository.resolve(revision)) is None:
            self.refuse(404, "RevisionNotFound")
            return
        oid, files = commit
        if file not in files:
            self.refuse(404, "EntryNotFound", {"X-Repo-Commit": oid})
            return
        content = files[file]
        headers = {} if hub.strange else {"X-Repo-Commit": hub.answered_commit or oid}
        if not file.endswith(".safetensors"):
            self.send(200, headers | {"ETag": f'"{git_sha1(content)}"'}, content)
            return
        digest = sha256(content)
        hub.uploads[digest] = content
        headers |= {
            "Location": f"{hub.cdn}/cdn/{digest}",
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(content)),
            "ETag": f'"{digest}"',
        }
        self.send(302, headers)

    def cdn(self, digest: str) -> None:
        hub = self.server_side
        content = hub.uploads[digest]
        if hub.wrong:
            content = bytes(byte ^ 1 for byte in content)
        if hub.short:
            content = content[: len(content) // 2]
        start = 0
        if asked := self.headers.get("Range"):
            hub.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").partition("-")[0])
        rest = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if hub.cut is not None and hub.cuts > 0:
            hub.cuts -= 1
            rest = rest[: max(hub.cut - start, 0)]
        self.wfile.write(rest)

    # Publishing

    def create(self) -> None:
        asked = json.loads(self.body)
        if not self.owner():
            self.send(401)
            return
        name = f"{asked['organization']}/{asked['name']}"
        hub = self.server_side
        if name in hub.repositories:
            self.reply({"error": "exists", "url": f"{hub.endpoint}/{name}"}, 409)
            return
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        hub.repositories[name] = Repository(private=private)
        self.reply({"url": f"{hub.endpoint}/{name}", "name": name, "id": name})

    def info(self, name: str) -> None:
        repository = self.server_side.repositories.get(name)
        if repository is None:
            self.refuse(401, "RepoNotFound")
            return
        sha = repository.commits[-1][0] if repository.commits else None
        self.reply({"id": name, "modelId": name, "private": repository.private, "sha": sha})

    def preupload(self, name: str, revision: str) -> None:
        rows = [
            {
                "path": row["path"],
                "uploadMode": "lfs" if row["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for row in json.loads(self.body)["files"]
        ]
        self.reply({"files": rows})

    def batch(self, name: str) -> None:
        href = f"{self.server_side.endpoint}/upload/"
        rows = [
            row | {"actions": {"upload": {"href": href + row["oid"]}}}
            for row in json.loads(self.body)["objects"]
        ]
        self.reply({"transfer": "basic", "objects": rows})

    def upload(self, digest: str) -> None:
        assert sha256(self.body) == digest
        self.server_side.uploads[digest] = self.body
        self.send(200)

    def commit(self, name: str, revision: str) -> None:
        hub = self.server_side
        files = {}
        for line in self.body.splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                files[value["path"]] = hub.uploads[value["oid"]]
        oid = hub.repositories[name].commit(files)
        self.reply({"commitUrl": f"{hub.endpoint}/{name}/commit/{oid}", "commitOid": oid})
