"""Reading and writing files: a file is replaced as a whole or not at all, read once, and never trusted."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

PathLike = str | os.PathLike[str]

# A folder, or a file of some network's or user's own file system, that knows no fsync.
_NO_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
_PIECE = 1 << 20  # bytes read at a time from what does not tell its size


# --- writing ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def replacing(path: PathLike, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a new file, "w" for text or "wb", which takes the place of `path` when the block ends well, else vanishes.

    The data reaches the disk before the name does (fsync), so a power cut cannot leave an empty file under it. A
    symbolic link is followed, and an existing file's permissions are kept. What is no file, a device or a pipe, is
    written to in the end: it must not become one. An error that the system reports names `path`, not the new file.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a directory; give the name of a file")
    if is_special(path):
        if stat.S_ISBLK(os.stat(path).st_mode):
            raise OSError(errno.EPERM, "is a disk, whose content would be lost", os.fspath(path))
        whole: IO[Any] = io.BytesIO() if "b" in mode else io.StringIO(newline="")  # a device cannot seek
        yield whole
        whole.seek(0)
        with naming(path), _open(path, mode) as file:
            file.write(whole.read())
        return
    if not target.parent.is_dir():  # said here, or the error would name the new file
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(target.parent))
    # As private as what it replaces from the first byte on. Of a long name a part, or the new one would be too long.
    permissions = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    temporary = target.with_name(f".{target.name[:60]}.{secrets.token_hex(4)}.tmp")
    with naming(path, temporary):
        try:
            with _open(temporary, mode.replace("w", "x"), 0o666 if permissions is None else permissions) as file:
                yield file
                file.flush()
                if permissions is not None:
                    with contextlib.suppress(OSError):  # a file system without permissions
                        os.chmod(temporary, permissions)  # the umask may have taken some
                _flush(file.fileno())
            temporary.replace(target)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
    _flush_folder(target.parent)


@contextlib.contextmanager
def naming(path: PathLike, *others: PathLike) -> Iterator[None]:
    """Let errors of the system that name no file, or one of `others`, name this one: ENOSPC comes without a name."""
    try:
        yield
    except OSError as error:
        unnamed = error.filename is None or error.filename in [os.fspath(other) for other in others]
        if error.errno is None or not unnamed:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def is_special(path: PathLike) -> bool:
    """Whether something is there that is neither a file nor a folder: a device, a pipe, a socket."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _open(path: PathLike, mode: str, permissions: int = 0o666) -> IO[Any]:
    text: dict[str, Any] = {} if "b" in mode else {"newline": "", "encoding": "utf-8"}
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, permissions), **text)


def _flush(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def _flush_folder(folder: Path) -> None:
    """Make a new name durable, where the system can: elsewhere the rename is as durable as it gets."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # a folder that may be written to, but not be looked into
        return
    try:
        with naming(folder):
            _flush(descriptor)
    finally:
        os.close(descriptor)


# --- reading ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(path: PathLike) -> Iterator[BinaryIO]:
    """Open a file to read, which can then be gone through more than once, what comes through a pipe too.

    Raises
    ------
    ValueError
        If it is a device, or a pipe brings more than fits in memory.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise ValueError(f"{path} is a device; give the name of a file, or of a pipe")
    with open(path, "rb") as file:
        yield file if file.seekable() else io.BytesIO(_all(file, path))


def _all(file: BinaryIO, path: PathLike) -> bytes:
    content, most = bytearray(), memory()
    while piece := file.read(_PIECE):
        content += piece
        if len(content) > most:
            raise ValueError(f"{path} brings more than the {most / 1e9:.3g} GB of memory that are left")
    return bytes(content)


@contextlib.contextmanager
def damaged(path: PathLike, what: str, mend: str = "") -> Iterator[None]:
    """Turn whatever the content of a file sets off in the block into ``ValueError("path what: why; mend")``.

    What names the file already passes, as do errors of the system.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # to seek to what a file says
            raise
        if isinstance(error, ValueError) and os.fspath(path) in str(error):
            raise
        said = str(error) if isinstance(error, ValueError | TypeError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} {what}: {said}{mend and '; '}{mend}") from error


def memory() -> int:
    """Bytes that can still be had: of the machine, of the container, and by the limit of this process."""
    found = [sys.maxsize]
    with contextlib.suppress(OSError, ValueError, LookupError), open("/proc/meminfo") as lines:
        named = dict(line.split(":", 1) for line in lines)
        found.append(1024 * sum(int(named[name].split()[0]) for name in ("MemAvailable", "SwapFree")))
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError), open(place) as limit:
            found.append(int(limit.read()))  # "max" is no number
    with contextlib.suppress(ImportError):
        import resource

        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        found.append(sys.maxsize if soft == resource.RLIM_INFINITY else soft)
    return min(found)
