"""Compiled kernels on disk: stale code is impossible, damaged code is noticed, a lost race costs nothing.

Numba's own cache does not see edits in other files, nor changed intrinsics or flags. Here the directory is named by a
hash of everything that the code depends on, and holds one checksummed file a function and signature, written whole.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import pickle
import platform
import secrets
import shutil
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path
from types import CodeType

import llvmlite
import numba
import numpy as np
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from fastbp.kernels.notice import tell
from fastbp.kernels.targets import cpu_name_and_features

_DIGEST_BYTES = 32
# Of Numba's settings, those that change the machine code.
_SETTINGS = (
    "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "ENABLE_AVX", "DEBUGINFO_DEFAULT", "BOUNDSCHECK",
    "EXTEND_VARIABLE_LIFETIMES", "DISABLE_INTEL_SVML",
)  # fmt: skip


# --- what the machine code comes from -------------------------------------------------------------------------

_code: dict[str, bytes | None] = {}  # module -> hash of its code, None where the loader hands out nothing


def remember_code() -> None:
    """Hash the kernels and the version as they have just been loaded.

    By what is loaded, not by a search for files: there may be none (an archive, sources removed after compileall, a
    frozen application), and what has not been loaded has no part in the machine code. And at once: files may be edited
    or upgraded before the first compile.
    """
    package = __package__
    version = f"{package.partition('.')[0]}._version"
    for name, module in list(sys.modules.items()):
        if name in (package, version) or name.startswith(f"{package}."):
            content = _content(module)
            _code[name] = None if content is None else hashlib.sha256(content).digest()


def _content(module) -> bytes | None:
    """What the loader of a module holds: source or bytecode, from a folder, an archive or the application itself."""
    spec = module.__spec__
    with contextlib.suppress(AttributeError, ImportError, OSError, TypeError, ValueError):
        return spec.loader.get_data(spec.origin)
    with contextlib.suppress(AttributeError, ImportError, OSError, TypeError, ValueError):
        code = spec.loader.get_code(spec.name)
        return None if code is None else repr(_plain(code)).encode()
    return None


def _plain(value):
    """Code as tuples and text that are the same in every process; `marshal` would write down reference counts, too."""
    if isinstance(value, CodeType):
        names = value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars
        numbers = value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags
        consts = [_plain(one) for one in value.co_consts]
        return value.co_name, value.co_code, value.co_exceptiontable, value.co_linetable, names, numbers, consts
    return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)


@cache
def fingerprint() -> str:
    """Hash of the kernels' code, the versions, the CPU and Numba's settings: the name of the directory."""
    digest = hashlib.sha256()
    for name, code in sorted(_code.items()):
        digest.update(name.encode() + b"\0" + (code or b"") + b"\0")
    about = (
        sys.version, numba.__version__, llvmlite.__version__, np.__version__, platform.machine(), sys.platform,
        *cpu_name_and_features(), *(str(getattr(numba.config, setting, None)) for setting in _SETTINGS),
    )  # fmt: skip
    digest.update("\0".join(about).encode())
    return digest.hexdigest()[:24]


# --- where it lies --------------------------------------------------------------------------------------------


def user_cache_folder() -> Path:
    """Where this user's caches live, by the custom of the system; FASTBP_CACHE_DIR overrides it.

    Raises
    ------
    RuntimeError
        This user has no home (in a container, with a number that is no one's).
    """
    chosen = os.environ.get("FASTBP_CACHE_DIR")
    if chosen:
        folder = Path(chosen)
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local") / "fastbp" / "Cache"
    elif sys.platform == "darwin":
        folder = Path("~/Library/Caches/fastbp")
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "fastbp"
    return folder.expanduser().absolute()


_temporary: list[Path | None] = []  # one at most
_making = threading.Lock()  # taken by the first that asks: the thread that compiles, or the one that waits for it


def _renew_lock() -> None:
    """In a forked child: the thread that may have held the lock does not exist there."""
    global _making
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@cache
def cache_folder() -> Path | None:
    """The folder of this build's machine code, which may be read only; None where there can be none."""
    if None in _code.values():
        return _temporary_folder("the loader of fastbp does not hand out its code")
    try:
        return user_cache_folder() / fingerprint()
    except RuntimeError as error:
        return _temporary_folder(str(error))


@cache
def writable_folder() -> Path | None:
    """Where machine code can be written: `cache_folder`, or else a temporary folder, or else nowhere."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        return _temporary_folder(f"{folder.parent}: {error.strerror or error}")


def _temporary_folder(problem: str) -> Path | None:
    """A folder that lasts as long as this process, with a warning that says why; None where there is no room at all."""
    with _making:
        if not _temporary:
            tell(
                f"fastbp cannot keep compiled kernels ({problem}): every new process compiles anew. "
                "Set FASTBP_CACHE_DIR to a folder that can be written.",
                RuntimeWarning,
                stacklevel=3,
            )
            try:
                root = Path(tempfile.mkdtemp(prefix="fastbp-"))
                atexit.register(_remove, root, os.getpid())
                _temporary.append(root / fingerprint())
            except OSError:
                _temporary.append(None)
        return _temporary[0]


def _remove(folder: Path, owner: int) -> None:
    """Not in a forked child: its parent goes on."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _warn_that_nothing_is_kept(folder: Path, problem: str) -> None:
    """Once, not for every file."""
    tell(
        f"compiled kernels could not be written to {folder} ({problem}): every new process compiles anew. Make room "
        "there, or set FASTBP_CACHE_DIR to another folder.",
        RuntimeWarning,
        stacklevel=3,
    )


class KernelCache:
    """The cache of one function, as a Numba dispatcher wants it: load_overload and save_overload."""

    def __init__(self, name: str):
        self.name = name

    def file_of(self, dtype: str) -> Path | None:
        """Where the code of a dtype lies, if it is anywhere."""
        folders = [folder for folder in (cache_folder(), *_temporary) if folder is not None]
        paths = [folder / f"{self.name}-{dtype}.bin" for folder in folders]
        # Not Path.is_file, which raises where a folder may not be read.
        return next((path for path in paths if os.path.isfile(path)), None)

    def load_overload(self, signature, target_context):
        """The compile result of a signature, or None where there is none that can be trusted."""
        path = self.file_of(signature[-1].name)
        try:
            content = b"" if path is None else path.read_bytes()
        except OSError:
            path = None
        if path is None:
            return None
        if self._checksum(signature, content[_DIGEST_BYTES:]) != content[:_DIGEST_BYTES]:
            tell(f"{path} is damaged: it is compiled anew.", RuntimeWarning, stacklevel=2)
            return None
        return CompileResult._rebuild(target_context, *pickle.loads(content[_DIGEST_BYTES:]))

    def save_overload(self, signature, result) -> None:
        """Write the file whole or not at all: of two processes, the later one wins with the same code."""
        folder = writable_folder()
        if folder is None:
            return
        payload = dumps(result._reduce())
        path = folder / f"{self.name}-{signature[-1].name}.bin"
        # Made by `open`, which leaves the mode to the umask: others may read what root has compiled.
        temporary = path.with_name(temporary_name(path.name, os.getpid()))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with open(temporary, "xb") as file:
                file.write(self._checksum(signature, payload) + payload)
            os.replace(temporary, path)
        except OSError as error:
            _warn_that_nothing_is_kept(folder, error.strerror or str(error))
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _checksum(self, signature, payload: bytes) -> bytes:
        """Of the code, and of whose it is: the signature spells out every field of the records that it works on."""
        owner = "\0".join((fingerprint(), self.name, *map(str, signature), ""))
        return hashlib.sha256(owner.encode() + payload).digest()


def temporary_name(name: str, process: int) -> str:
    """A name for a file of a process before it is whole; with ``*`` for the name, a pattern of all of them."""
    token = "*" if name == "*" else secrets.token_hex(4)
    return f"{name}.{process}-{token}.tmp"
