"""A folder on a file system that fsspec supports: s3://, gs://, abfs://, sftp://, file://, ...

An object store has no rename and no fsync: a file appears, complete, once its upload has
ended. So a file that names other files is written after them. fsspec is imported only here.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pres_dist.errors import CheckpointError, ConfigError, first_line

_PARTIAL = ".part"
_MISSING = "needs fsspec: pip install 'pres-dist[mirror]'"


def is_url(text: str) -> bool:
    """Return True if the text is a URL, not a path of this machine."""
    return "://" in text


def check_url(url: str) -> None:
    """Raise ValueError unless the text is a URL that holds no secret.

    The error does not repeat the URL, which may hold one.
    """
    if not is_url(url):
        raise ValueError("must be a URL such as s3://bucket/runs/one, got none with ://")
    if any(_holds_secret(part) for part in url.split("::")):
        raise ValueError(
            "must hold no password, token or query (?...), which run folders would note: name the "
            "account in the environment or in the file system's own configuration"
        )


def without_secrets(text: str) -> str:
    """Return a text, such as a command line, in which secrets of URLs are replaced by ***."""
    # A URL that was converted to a path has one slash.
    secret = r"(:/{1,2})[^\s'\"@]*(?::|%3A)[^\s'\"@]*@|(https?:/{1,2})[^\s'\"@/]*@"
    text = re.sub(secret, r"\1\2***@", text, flags=re.IGNORECASE)
    return re.sub(r"(://[^\s'\"?#]*[?#])[^\s'\"]+", r"\1***", text)


def _holds_secret(part: str) -> bool:
    """Return True if a URL of a chain such as `simplecache::ftp://host/path` may hold a secret.

    A bare user name is allowed, as in sftp://user@host, but not for HTTP, where it is a token.
    """
    places = re.findall(r"([\w.+-]*)://([^/]*)", part)
    if "?" in part or "#" in part or not places:
        return re.fullmatch(r"[\w.+-]*", part) is None
    for scheme, place in places:
        account, at, host = unquote(place).rpartition("@")
        # A slash in a password ends the host part early; the text after the colon is then no port.
        if ":" in account or not re.fullmatch(r"[^:]*(:\d+)?", host):
            return True
        if at and scheme.lower().startswith("http"):
            return True
    return False


class RemoteFolder:
    """Files under a URL. Names are relative paths with `/`.

    Args:
        url: of the folder, which need not exist.
        asked_by: setting or command that names it, for errors.

    Raises:
        ConfigError: fsspec or the file system's own package is missing, or the URL is wrong.
    """

    def __init__(self, url: str, asked_by: str) -> None:
        try:
            check_url(url)
            from fsspec.core import url_to_fs
        except ImportError:
            raise ConfigError(f"{asked_by}: {url} {_MISSING}") from None
        except ValueError as error:
            raise ConfigError(f"{asked_by} {error}") from None
        self.url = url.rstrip("/")
        try:
            self._files, self._root = url_to_fs(self.url)
        except Exception as error:  # each file system has errors of its own
            raise ConfigError(f"{asked_by}: {url} cannot be used: {_reason(error)}") from None

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is no such file."""
        try:
            with self._telling(name, "read"):
                content: bytes = self._files.cat_file(self._path(name))
                return content
        except FileNotFoundError:
            return None

    def read_line(self, name: str) -> str | None:
        """Return the text of a file that names another; None if there is no such file."""
        content = self.read(name)
        return None if content is None else content.decode(errors="replace").strip()

    def write(self, name: str, content: bytes) -> None:
        """Replace a small file; a reader sees the complete old file or the complete new one."""
        path = self._path(name)
        with self._telling(name, "written"):
            if not path.startswith("/"):  # an object store, where an upload is atomic
                self._files.pipe_file(path, content)
                return
            self._make_parent(path)
            partial = f"{path}.{secrets.token_hex(8)}{_PARTIAL}"
            self._files.pipe_file(partial, content)
            self._files.mv(partial, path)

    def remove_partial(self) -> None:
        """Remove partial files of a killed process; safe because a URL has one writer."""
        with self._telling("", "listed"):
            self._files.invalidate_cache()
            for folder in (self._root, self._path("checkpoints")):
                if self._files.isdir(folder):
                    for path in self._files.ls(folder, detail=False):
                        if re.search(rf"\.[0-9a-f]{{16}}{re.escape(_PARTIAL)}$", path):
                            self._files.rm(path)

    def upload(self, local: Path, name: str) -> None:
        """Upload a local file."""
        path = self._path(name)
        with self._telling(name, "written"):
            self._make_parent(path)
            self._files.put_file(str(local), path)
            self._files.invalidate_cache()
            there, here = self._files.size(path), local.stat().st_size
            if there != here:
                raise OSError(f"{there:,} of {here:,} bytes have arrived")

    def download(self, name: str, local: Path) -> None:
        """Download a file; raise FileNotFoundError if there is no such file."""
        with self._telling(name, "read"):
            self._files.get_file(self._path(name), str(local))

    def folders(self, name: str) -> list[str]:
        """Return the sorted names of the folders in a folder; empty if it does not exist."""
        with self._telling(name, "listed"):
            self._files.invalidate_cache()  # others write here too
            try:
                found = self._files.ls(self._path(name), detail=True)
            except FileNotFoundError:
                return []
        folders = (entry["name"] for entry in found if entry["type"] == "directory")
        return sorted(path.rstrip("/").rsplit("/", 1)[1] for path in folders)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with its content; do nothing if it does not exist."""
        with self._telling(name, "removed"):
            self._files.invalidate_cache()
            if self._files.exists(self._path(name)):
                self._files.rm(self._path(name), recursive=True)

    def _make_parent(self, path: str) -> None:
        """Make the parent folder, except in an object store.

        An object store, whose paths begin with a bucket, has no folders. Asked for one, s3fs
        would create the bucket, whose name may be misspelled.
        """
        if path.startswith("/"):
            self._files.makedirs(self._files._parent(path), exist_ok=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _telling(self, name: str, done: str) -> Iterator[None]:
        """Turn file system errors into CheckpointError, except FileNotFoundError from a read."""
        try:
            yield
        except Exception as error:  # each file system has errors of its own
            if isinstance(error, FileNotFoundError) and done == "read":
                raise
            text = f"{self.url}/{name}: cannot be {done}: {_reason(error)}"
            raise CheckpointError(text) from None


def _reason(error: Any) -> str:
    text = first_line(error)
    return text if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {text}"
