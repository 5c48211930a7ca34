"""A small Hub on this machine: the endpoints that huggingface_hub asks when agents are downloaded and pushed."""

import base64
import hashlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_of_the_tests"
#: whose files are large files, behind a redirect to another host
LARGE = (".zip", ".png", ".pkl")


@dataclass
class Repo:
    """Branches name commits, commits hold files."""

    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], branch: str = "main", message: str = "") -> str:
        """Add files to what the branch has."""
        tree = self.commits.get(self.branches.get(branch, ""), {}) | files
        self.messages.append(message)
        sha = hashlib.sha1(f"{id(self)} {len(self.messages)}".encode()).hexdigest()
        self.commits[sha], self.branches[branch] = tree, sha
        return sha

    def files(self, branch: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches[branch]]


class HubServer:
    """Serves ``repos`` while it is entered; ``asked`` counts downloads by file or hash, and listings as ``tree``."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        #: status and body of the answer to everything, instead of the right one
        self.answer: tuple[int, bytes] | None = None
        #: where the download of a large file is cut, in bytes
        self.cut: int | None = None
        #: called before that
        self.before_cut: Callable[[], None] = lambda: None
        #: large files cannot be uploaded
        self.broken_storage = False
        self.connections: list[socket.socket] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.hub = self  # type: ignore[attr-defined]
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        #: another host to a client, which sends it no token
        self.storage = f"http://localhost:{self.port}"

    def __enter__(self) -> "HubServer":
        # The short interval is what stop() has to wait for.
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def stop(self) -> None:
        """As if the network was gone: connections that a client keeps open are closed too."""
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __exit__(self, *_: object) -> None:
        self.stop()

    def add(self, name: str, files: dict[str, bytes], private: bool = False) -> str:
        """A repository with one commit, whose hash is returned."""
        self.repos[name] = Repo(private)
        return self.repos[name].commit(files)


class Refused(Exception):
    """An error answer, with what the Hub says in its headers."""

    def __init__(self, status: int, code: str | None = None, message: str | None = None) -> None:
        self.status = status
        self.headers = {
            header: text for header, text in (("X-Error-Code", code), ("X-Error-Message", message)) if text is not None
        }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits for 40 ms

    def setup(self) -> None:
        super().setup()
        self.hub.connections.append(self.connection)

    def log_message(self, *_: object) -> None:
        pass

    @property
    def hub(self) -> HubServer:
        return self.server.hub  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        self.respond()

    def do_HEAD(self) -> None:
        self.respond()

    def do_POST(self) -> None:
        self.respond()

    def do_PUT(self) -> None:
        self.respond()

    def respond(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        if self.hub.answer is not None:
            self.send(self.hub.answer[1], self.hub.answer[0])
            return
        try:
            route = self.route_reading if self.command in ("GET", "HEAD") else self.route_writing
            route([unquote(part) for part in path.strip("/").split("/")])
        except Refused as refused:
            self.send(b"{}", refused.status, refused.headers)

    def route_reading(self, parts: list[str]) -> None:
        match parts:
            case "api", "models", owner, name:
                self.repo_info(f"{owner}/{name}", "main")
            case "api", "models", owner, name, "revision", revision:
                self.repo_info(f"{owner}/{name}", revision)
            case "api", "models", owner, name, "tree", revision:
                self.tree(f"{owner}/{name}", revision)
            case owner, name, "resolve", revision, *file:
                self.file(f"{owner}/{name}", revision, "/".join(file))
            case "storage", oid:
                self.send_large(oid)
            case _:
                raise Refused(404)

    def route_writing(self, parts: list[str]) -> None:
        match parts:
            case "api", "repos", "create":
                self.create(json.loads(self.body))
            case "api", "validate-yaml":
                self.validate(json.loads(self.body)["content"])
            case "api", "models", owner, name, "branch", branch:
                self.branch(f"{owner}/{name}", branch)
            case "api", "models", owner, name, "preupload", revision:
                self.preupload(f"{owner}/{name}", revision)
            case owner, name, "info", "lfs", "objects", "batch":
                self.batch(f"{owner}/{name}".removesuffix(".git"))
            case "storage", oid:
                self.store(oid)
            case "api", "models", owner, name, "commit", branch:
                self.commit(f"{owner}/{name}", branch)
            case _:
                raise Refused(404)

    # --- reading ------------------------------------------------------------------------------------------------------

    def repo(self, name: str, write: bool = False) -> Repo:
        self.check_token()
        known = "Authorization" in self.headers
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not known):
            # To those that it does not know, the Hub does not tell what exists.
            raise Refused(404 if known else 401, "RepoNotFound", "Repository not found")
        if write and not known:
            raise Refused(401, None, "Invalid username or password.")
        return repo

    def check_storage(self) -> None:
        if "Authorization" in self.headers:
            raise Refused(400, None, "the storage must not be told the token")

    def check_token(self) -> None:
        if self.headers.get("Authorization", f"Bearer {TOKEN}") != f"Bearer {TOKEN}":
            raise Refused(401, None, "Invalid credentials in Authorization header")

    def sha(self, repo: Repo, revision: str) -> str:
        sha = repo.branches.get(revision, revision)
        if sha not in repo.commits:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def repo_info(self, name: str, revision: str) -> None:
        repo = self.repo(name)
        sha = self.sha(repo, revision)
        siblings = [{"rfilename": file} for file in repo.commits[sha]]
        self.send_json({"id": name, "sha": sha, "private": repo.private, "siblings": siblings, "tags": []})

    def tree(self, name: str, revision: str) -> None:
        repo = self.repo(name)
        self.hub.asked["tree"] += 1
        entries = []
        for file, data in repo.commits[self.sha(repo, revision)].items():
            entry = {"type": "file", "path": file, "size": len(data), "oid": git_oid(data)}
            if file.endswith(LARGE):
                entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
            entries.append(entry)
        self.send_json(entries)

    def file(self, name: str, revision: str, file: str) -> None:
        repo = self.repo(name)
        sha = self.sha(repo, revision)
        commit = {"X-Repo-Commit": sha}
        data = repo.commits[sha].get(file)
        if data is None:
            raise Refused(404, "EntryNotFound", "Entry not found")
        if self.command == "GET":
            self.hub.asked[file] += 1
        if file.endswith(LARGE):
            oid = sha256(data)
            self.hub.blobs[oid] = data
            linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data))}
            location = f"{self.hub.storage}/storage/{oid}"
            self.send(b"", 302, commit | linked | {"Location": location})
        else:
            self.send(data, 200, commit | {"ETag": f'"{git_oid(data)}"'})

    def send_large(self, oid: str) -> None:
        self.check_storage()
        data = self.hub.blobs[oid]
        if self.command == "GET":
            self.hub.asked[oid] += 1
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self.send(data[start:], 206 if start else 200, headers, None if self.hub.cut is None else self.hub.cut - start)

    # --- writing ------------------------------------------------------------------------------------------------------

    def create(self, wish: dict) -> None:
        if "Authorization" not in self.headers:
            raise Refused(401, None, "Invalid username or password.")
        self.check_token()
        name = f"{wish['organization']}/{wish['name']}"
        if wish["organization"] == "others":
            raise Refused(403, None, "You don't have the rights to create a model under the namespace others")
        private = wish.get("visibility") == "private" or wish.get("private") is True
        url = {"url": f"{self.hub.url}/{name}"}
        if name in self.hub.repos:
            self.send_json(url, 409)
        else:
            self.hub.add(name, {".gitattributes": b"*.zip filter=lfs diff=lfs merge=lfs -text\n"}, private)
            self.send_json(url)

    def branch(self, name: str, branch: str) -> None:
        repo = self.repo(name, write=True)
        if branch in repo.branches:
            raise Refused(409)
        repo.branches[branch] = repo.branches["main"]
        self.send_json({}, 201)

    def validate(self, card: str) -> None:
        try:
            ok = isinstance(yaml.safe_load(card.split("---\n")[1]), dict)
        except (yaml.YAMLError, IndexError):
            ok = False
        self.send_json({"errors": [] if ok else [{"message": "no metadata"}], "warnings": []}, 200 if ok else 400)

    def preupload(self, name: str, revision: str) -> None:
        repo = self.repo(name, write=True)
        self.sha(repo, revision)
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self.body)["files"]
        ]
        self.send_json({"files": files})

    def batch(self, name: str) -> None:
        self.repo(name, write=True)
        objects = [
            wanted | {"actions": {"upload": {"href": f"{self.hub.storage}/storage/{wanted['oid']}"}}}
            for wanted in json.loads(self.body)["objects"]
        ]
        self.send_json({"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        self.check_storage()
        if self.hub.broken_storage:
            raise Refused(500)
        if sha256(self.body) != oid:
            raise Refused(400)
        self.hub.blobs[oid] = self.body
        self.send(b"")

    def commit(self, name: str, branch: str) -> None:
        repo = self.repo(name, write=True)
        self.sha(repo, branch)
        files, message = {}, ""
        for line in self.body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            else:
                raise Refused(400)
        sha = repo.commit(files, branch, message)
        self.send_json({"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha, "success": True})

    # --- answers ------------------------------------------------------------------------------------------------------

    def send_json(self, data: object, status: int = 200) -> None:
        self.send(json.dumps(data).encode(), status, {"Content-Type": "application/json"})

    def send(
        self, body: bytes, status: int = 200, headers: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut is not None and cut < len(body):
            self.wfile.write(body[: max(0, cut)])
            self.wfile.flush()
            self.hub.before_cut()
            self.close_connection = True
        else:
            self.wfile.write(body)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
