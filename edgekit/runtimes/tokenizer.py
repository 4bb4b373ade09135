"""tokenizer.json to a tokenizer, and whatever is wrong with it to one error."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from edgekit.bundle.plain import reason
from edgekit.errors import BundleError

MAX_BYTES = 64 << 20  # the largest that are in use have some 30 MB
_PROBE = "a \U0001f600\u65e5\u0378"  # a word, and what few vocabularies know


def open_tokenizer(source: Path | Tokenizer) -> Tokenizer:
    """A tokenizer of the caller's own, without truncation and padding, that has shown that it can encode.

    Raises ``BundleError`` naming the file for one that is too large, cannot be read or cannot encode.
    """
    name = "tokenizer" if isinstance(source, Tokenizer) else source.name
    data = source.to_str().encode() if isinstance(source, Tokenizer) else _read(source)
    try:
        found = Tokenizer.from_buffer(data)
        found.no_truncation()  # both may be on in the file
        found.no_padding()
        found.encode(_PROBE)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # tokenizers raises a bare Exception, and in Rust's panics something outside it
        raise BundleError(f"{name} cannot be read", found=str(error)[:200]) from None
    return found


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path.name} cannot be read", found=reason(error)) from None
    if len(data) > MAX_BYTES:
        raise BundleError(path.name, found=f"more than {MAX_BYTES} bytes", expected=f"at most {MAX_BYTES}")
    return data
