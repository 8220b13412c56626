"""A server on loopback with the part of the Hugging Face Hub's HTTP interface that models need, and faults on demand.

Repositories, commits, regular and LFS files, branches and access are kept in memory. It is strict where the Hub is: an
upload must have the announced hash, and a commit may name only what was uploaded.
"""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKENS = {"hf_writer": "write", "hf_reader": "read"}


class Repository:
    """Commits by their names, and where the branches are."""

    def __init__(self, private=False):
        self.private, self.gated = private, False
        self.commits, self.branches, self.lfs = {}, {}, set()
        self.commit({}, "initial commit")

    def commit(self, files, message, branch="main"):
        merged = {**self.files(branch), **files}
        name = hashlib.sha1(repr((sorted(merged.items()), message, len(self.commits))).encode()).hexdigest()
        self.commits[name], self.branches[branch] = merged, name
        return name

    def files(self, revision):
        name = self.branches.get(revision, revision)
        return self.commits.get(name, {})

    def etag(self, path, content):
        if path in self.lfs:
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class HubServer:
    """The server; `with HubServer() as hub` runs it in a thread."""

    def __init__(self):
        self.repositories = {}
        self.uploads = {}
        self.requests = []  # (method, path, user agent)
        self.refuse = {}  # part of a path: (status, headers, body)
        self.change = {}  # file name: what is done to the bytes that a GET sends
        self.cut = {}  # file name: after how many bytes the next connection is closed
        self.stall = {}  # file name: after how many bytes nothing more is sent until `released`
        self.stalled, self.released = threading.Event(), threading.Event()

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def asked_for(self, part):
        """The requests whose path has a part."""
        return [(method, path) for method, path, _ in self.requests if part in path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self):  # noqa: PLR0911 - a page each
        path = unquote(urlsplit(self.path).path)
        body = self._body()
        self.hub.requests.append((self.command, path, self.headers.get("User-Agent", "")))
        for part, (status, headers, text) in self.hub.refuse.items():
            if part in f"{self.command} {path}":
                return self._send(status, text.encode(), headers)
        match path.strip("/").split("/"):
            case ["api", "repos", "create"]:
                return self._create(json.loads(body))
            case ["api", "validate-yaml"]:
                return self._json({"warnings": [], "errors": []})
            case ["lfs", oid]:
                if hashlib.sha256(body).hexdigest() != oid:
                    return self._json({"error": "wrong hash"}, 400)
                self.hub.uploads[oid] = body
                return self._send(200, b"")
            case ["api", "models", user, name, *rest]:
                return self._model(f"{user}/{name}", rest, body)
            case [user, name, "info", "lfs", "objects", "batch"]:
                return self._batch(f"{user}/{name.removesuffix('.git')}", json.loads(body))
            case [user, name, "resolve", revision, *file]:
                return self._resolve(f"{user}/{name}", revision, "/".join(file))
        return self._json({"error": "no such page"}, 404)

    # Access ----------------------------------------------------------------------------------------------------

    def _right(self):
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        return TOKENS.get(token)

    def _repository(self, name):
        """The repository if the token may see it; or None, and an answer was sent."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and self._right() is None):
            status = 404 if self._right() else 401
            self._json({"error": "Repository not found"}, status, {"X-Error-Code": "RepoNotFound"})
            return None
        return repository

    def _writable(self, name):
        repository = self._repository(name)
        if repository is not None and self._right() != "write":
            self._json({"error": "You don't have the rights to write"}, 403)
            return None
        return repository

    # Pages -----------------------------------------------------------------------------------------------------

    def _create(self, wanted):
        if self._right() != "write":
            message = {"error": "You don't have the rights to create a model"}
            return self._json(message, 403 if self._right() else 401)
        name = f"{wanted['organization']}/{wanted['name']}"
        url = {"url": f"{self.hub.url}/{name}"}
        if name in self.hub.repositories:
            return self._json({"error": "You already created this model repo", **url}, 409)
        private = wanted.get("private", wanted.get("visibility") == "private")
        self.hub.repositories[name] = Repository(private)
        return self._json(url)

    def _model(self, name, rest, body):  # noqa: PLR0911
        repository = self._writable(name) if self.command == "POST" else self._repository(name)
        if repository is None:
            return None
        revision = repository.branches.get(rest[1], rest[1]) if len(rest) > 1 else repository.branches["main"]
        if revision not in repository.commits:
            return self._json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        files = repository.commits[revision]
        match rest:
            case [] | ["revision", _]:
                return self._json({
                    "id": name, "sha": revision, "private": repository.private, "gated": repository.gated,
                    "siblings": [{"rfilename": path} for path in files],
                })  # fmt: skip
            case ["tree", _]:
                return self._json([_entry(repository, path, content) for path, content in files.items()])
            case ["preupload", _]:
                return self._json(
                    {"files": [self._mode(file, files, repository) for file in json.loads(body)["files"]]}
                )
            case ["commit", branch]:
                return self._commit(name, repository, branch, [json.loads(line) for line in body.splitlines()])
        return self._json({"error": "no such page"}, 404)

    def _mode(self, file, files, repository):
        path = file["path"]
        known = {"oid": repository.etag(path, files[path])} if path in files else {}
        mode = "lfs" if path.endswith(".safetensors") else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, **known}

    def _commit(self, name, repository, branch, lines):
        files, message = {}, ""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.uploads:
                    return self._json({"error": "the file was not uploaded"}, 400)
                files[value["path"]] = self.hub.uploads[value["oid"]]
                repository.lfs.add(value["path"])
        oid = repository.commit(files, message, branch)
        return self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid, "success": True})

    def _batch(self, name, wanted):
        if self._writable(name) is None:
            return None
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}"}}} for each in wanted["objects"]
        ]
        return self._json({"transfer": "basic", "objects": objects})

    def _resolve(self, name, revision, path):
        repository = self._repository(name)
        if repository is None:
            return None
        if repository.gated and self._right() is None:
            return self._json({"error": "restricted"}, 403, {"X-Error-Code": "GatedRepo"})
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            return self._json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        headers = {"X-Repo-Commit": commit}
        if path not in repository.commits[commit]:
            return self._json({"error": "Entry not found"}, 404, {**headers, "X-Error-Code": "EntryNotFound"})
        content = repository.commits[commit][path]
        headers |= {"ETag": f'"{repository.etag(path, content)}"', "Accept-Ranges": "bytes"}
        if self.command == "GET":
            content = self.hub.change.get(path, bytes)(content)
        status, start = 200, int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start:
            status, headers["Content-Range"] = 206, f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self._send(status, content[start:], headers, path)

    # Answers ---------------------------------------------------------------------------------------------------

    def _json(self, values, status=200, headers=None):
        said = {"X-Error-Message": values["error"]} if "error" in values else {}
        self._send(status, json.dumps(values).encode(), {"Content-Type": "application/json", **said, **(headers or {})})

    def _send(self, status, content, headers=None, path=""):
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if path in self.hub.cut:
            self.wfile.write(content[: self.hub.cut.pop(path)])
            self.close_connection = True
        elif path in self.hub.stall:
            self.wfile.write(content[: self.hub.stall.pop(path)])
            self.wfile.flush()
            self.hub.stalled.set()
            self.hub.released.wait(60)
            self.close_connection = True
        else:
            self.wfile.write(content)


def _entry(repository, path, content):
    entry = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
    if path in repository.lfs:
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry
