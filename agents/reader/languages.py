"""What a file is written in: text or binary, its encoding, and its language with the lexer that knows it."""

from __future__ import annotations

import codecs
import mimetypes
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

from pygments.lexers import find_lexer_class_for_filename, get_lexer_by_name
from pygments.util import ClassNotFound

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MAGIC: Final = (
    (b"\x89PNG", "PNG image"),
    (b"\xff\xd8\xff", "JPEG image"),
    (b"GIF8", "GIF image"),
    (b"%PDF", "PDF document"),
    (b"PK\x03\x04", "ZIP archive"),
    (b"\x1f\x8b", "gzip archive"),
    (b"BZh", "bzip2 archive"),
    (b"\xfd7zXZ", "xz archive"),
    (b"\x28\xb5\x2f\xfd", "Zstandard archive"),
    (b"\x7fELF", "ELF program"),
    (b"\xca\xfe\xba\xbe", "Java class or Mach-O program"),
    (b"MZ", "Windows program"),
    (b"\x00asm", "WebAssembly"),
    (b"SQLite format 3", "SQLite database"),
    (b"wOF", "web font"),
)
# Where several languages share a name pygments picks by its own order; these are what people mean.
_COMMON: Final = {
    ".h": "c", ".sql": "sql", ".pl": "perl", ".m": "objective-c", ".csv": "", ".tsv": "", ".log": "text",
    ".lock": "text", ".txt": "text", ".ipynb": "json", ".jsonl": "json", ".mod": "text", ".svg": "xml",
}  # fmt: skip
_KNOWN_NAMES: Final = {".gitignore": "Ignore file", ".dockerignore": "Ignore file", "LICENSE": "Text"}
_TABLES: Final = {".csv": "CSV", ".tsv": "TSV", ".ipynb": "Jupyter notebook"}
_SHEBANG: Final = re.compile(r"#!\s*\S*?(?:/env\s+(?:-S\s+)?)?([A-Za-z]+)[\d.]*(?:\s|\Z)")


@dataclass(frozen=True, slots=True)
class Language:
    """`lexer` is None when no lexer knows the language: then it is text without known structure."""

    name: str
    lexer: Any = None


def decode(head: bytes, cut: bool) -> tuple[str, str] | None:
    """Text and its encoding, or None for what is not text. `cut` says that the bytes go on."""
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return _decoder(encoding, "replace").decode(head, not cut), encoding.removesuffix("-sig")
    if b"\0" in head[:8192]:
        return None
    try:
        text, encoding = _decoder("utf-8", "strict").decode(head, not cut), "utf-8"
    except UnicodeDecodeError:
        text, encoding = head.decode("latin-1"), "latin-1"
    sample = text[:8192]
    odd = sum(1 for c in sample if (c < " " and c not in "\t\n\r\f\x1b\b") or "\x7f" <= c <= "\x9f")
    return (text, encoding) if odd * 20 <= len(sample) else None


def _decoder(encoding: str, errors: str) -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder(encoding)(errors)


def binary_kind(name: str, head: bytes) -> str:
    """A word or two for what a binary file is, by its first bytes, else by its name."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar":
        return "tar archive"
    guessed = mimetypes.guess_type(name, strict=False)[0]
    return f"binary data ({guessed})" if guessed else "binary data"


def language_of(name: str, text: str) -> Language:
    """By the file's name, else by its first line. Never by guessing among all: that costs and errs."""
    path = PurePath(name)
    if name in _KNOWN_NAMES:
        return Language(_KNOWN_NAMES[name])
    suffix = path.suffix.lower()
    try:
        if suffix in _COMMON:
            alias = _COMMON[suffix]
            if suffix == ".h" and re.search(r"^\s*(class|namespace|template)\b", text, re.M):
                alias = "c++"
            lexer = get_lexer_by_name(alias) if alias else None
            return Language(_TABLES.get(suffix) or _plain(lexer.name if lexer else "Text"), lexer)
        found = find_lexer_class_for_filename(name, text[:4000])
        if found is not None:
            return Language(_plain(found.name), found(stripnl=False, ensurenl=False))
        shebang = _SHEBANG.match(text)
        if shebang:
            lexer = get_lexer_by_name(shebang[1].lower())
            return Language(_plain(lexer.name), lexer)
    except (ClassNotFound, ValueError):
        pass
    return Language("XML", get_lexer_by_name("xml")) if text.startswith("<?xml") else Language("Text")


def _plain(name: str) -> str:
    return {"Text only": "Text", "ReStructuredText": "reStructuredText", "Docker": "Dockerfile"}.get(
        name, name
    )
