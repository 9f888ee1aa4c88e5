"""The reader: every kind of file ends in a Reading with a state and clear words, never in an exception."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import msgspec
import pytest

from agents.reader.opening import WHOLE_LIMIT, from_wire
from agents.reader.plugin import named_file
from agents.reader.reading import LEX_LIMIT, PARTS, Reading, read


def reading_of(path: Path, content: str | bytes) -> Reading:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return on_the_wire(read(str(path))[0])


def on_the_wire(reading: Reading) -> Reading:
    """As the surveyor gets it: a reading must survive JSON, UTF-8 and a database that takes no NUL."""
    encoded = json.dumps(msgspec.to_builtins(reading), ensure_ascii=False).encode("utf-8")
    assert b"\\u0000" not in encoded
    return msgspec.json.decode(encoded, type=Reading)


def names(reading: Reading) -> list[tuple[str, str]]:
    return [(part.kind, part.name) for part in reading.parts]


PYTHON = '''"""The offline queue: mail waits here for agents that are away. It keeps the order of each room."""

class OfflineQueue:
    """Holds deliveries."""
    def push(self, delivery): ...
    async def drain(self): ...

def empty_queue() -> OfflineQueue:
    return OfflineQueue()
'''


def test_python_is_read_by_its_classes_and_docstrings(tmp_path: Path) -> None:
    reading = reading_of(tmp_path / "queue.py", PYTHON)
    assert (reading.state, reading.language, reading.encoding) == ("read", "Python", "utf-8")
    assert (reading.size, reading.lines) == (len(PYTHON), PYTHON.count("\n"))
    assert names(reading) == [
        ("class", "OfflineQueue"), ("method", "push"), ("method", "drain"), ("function", "empty_queue"),
    ]  # fmt: skip
    assert reading.sentences[0] == "The offline queue: mail waits here for agents that are away."
    assert {"queue", "offline queue"} & {term for term, _ in reading.terms}


def test_python_that_does_not_parse_still_has_a_structure_and_says_where_it_breaks(tmp_path: Path) -> None:
    reading = reading_of(tmp_path / "broken.py", "class Kept:\n    pass\n\ndef (:\n")
    assert ("class", "Kept") in names(reading)
    assert reading.reason == "It does not parse as Python (line 4)."


def test_odd_escapes_in_python_are_no_trouble_of_ours(tmp_path: Path) -> None:
    assert reading_of(tmp_path / "odd.py", 'PATTERN = "\\d"\n').reason == ""


def test_markdown_is_read_by_its_headings_and_paragraphs(tmp_path: Path) -> None:
    text = (
        "# The house\n\nAgents are *processes* that talk over [a wire](http://x).\n\n"
        "```python\n# no heading, and this comment is not a sentence of the document at all.\n```\n\n"
        "## Doors\n\n| a | table |\n"
    )
    reading = reading_of(tmp_path / "README.md", text)
    assert names(reading) == [("heading", "The house"), ("heading", "Doors")]
    assert reading.sentences == ("Agents are processes that talk over a wire.",)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", '{"one": {"x": 1, "y": 2}, "two": []}', [("key", "one"), ("key", "two")]),
        ("a.jsonl", '{"one": 1}\n{"one": 2}\n', [("key", "one")]),
        ("a.toml", "title = 'x'\n[a.b]\nline = 1\n", [("key", "title"), ("table", "a"), ("table", "a.b")]),
        ("a.yaml", "one: !vault x\ntwo: [1, 2]\n---\nthree: 3\n", [("key", "one"), ("key", "two"), ("key", "three")]),
        ("a.csv", "name;age\nann;3\nbob;4\n", [("column", "name"), ("column", "age")]),
        ("Makefile", "demo:\n\techo hi\n", [("function", "demo")]),
        ("a.js", "class Cart { }\nfunction total(items) { return 0 }\n", [("class", "Cart"), ("function", "total")]),
        ("a.go", "package x\nfunc Total() int { return 0 }\n", [("function", "Total")]),
        ("a.rs", "pub struct Cart { n: u8 }\nfn total() {}\n", [("class", "Cart"), ("function", "total")]),
        ("a.c", "int total(int n) { return n; }\n", [("function", "total")]),
    ],
)  # fmt: skip
def test_structure_by_language(tmp_path: Path, name: str, text: str, expected: list[tuple[str, str]]) -> None:
    found = names(reading_of(tmp_path / name, text))
    assert found[: len(expected)] == expected


@pytest.mark.parametrize("name", ["deep.json", "deep.yaml", "deep.py", "deep.toml"])
def test_a_file_nested_too_deeply_is_described_and_not_crashed_on(tmp_path: Path, name: str) -> None:
    prefix = "x = " if name.endswith(("py", "toml")) else ""
    reading = reading_of(tmp_path / name, prefix + "[" * 40_000)
    assert reading.state == "read"
    assert "does not parse" in reading.reason


def test_yaml_aliases_are_not_unfolded(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
    )
    assert reading_of(tmp_path / "bomb.yaml", bomb).parts_total == 30


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    reading = reading_of(tmp_path / "empty.txt", b"")
    assert (reading.state, reading.reason) == ("empty", "The file is empty.")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("x.png", b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG image"),
        ("x.dat", bytes(range(256)) * 10, "binary"),
        ("x.bin", b"\xff\x00\xfe\x00" * 100, "binary"),
        ("x.py", b"\x7fELF\x00\x00", "ELF program"),
    ],
)
def test_a_binary_file_is_named_for_what_it_is(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    reading = reading_of(tmp_path / name, content)
    assert reading.state == "binary"
    assert kind in reading.reason


def test_other_encodings_than_utf8_are_read_and_named(tmp_path: Path) -> None:
    assert reading_of(tmp_path / "a.txt", "Grüße aus Köln".encode("latin-1")).encoding == "latin-1"
    assert reading_of(tmp_path / "b.txt", "Grüße aus Köln".encode("utf-16")).encoding == "utf-16"
    assert reading_of(tmp_path / "c.txt", "Grüße".encode("utf-8-sig")).encoding == "utf-8"


def test_of_a_large_file_only_head_and_tail_are_read(tmp_path: Path) -> None:
    path = tmp_path / "large.log"
    with path.open("wb") as file:
        file.write("The first line says what this is about — ä.\n".encode() * 2000)
        file.truncate(100_000_000)
    reading, text = read(str(path))
    assert (reading.state, reading.size, reading.lines) == ("sampled", 100_000_000, None)
    assert "first" in reading.reason
    assert len(text) < 200_000


def test_a_letter_cut_in_two_at_the_end_of_a_sample_is_no_other_encoding(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_bytes(b"x" + "ä".encode() * WHOLE_LIMIT)
    assert read(str(path))[0].encoding == "utf-8"


def test_what_is_not_a_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        home = Path.cwd()
        os.chdir(tmp_path)  # a socket's address is short, a test's folder may not be
        try:
            server.bind("socket")
        finally:
            os.chdir(home)
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "dangling").symlink_to("nowhere")
    states = {path.name: read(str(path))[0].state for path in sorted(tmp_path.iterdir())}
    assert states == {"pipe": "special", "socket": "special", "link": "link", "dangling": "link"}
    assert read("/dev/zero")[0].state == "special"
    assert read(str(tmp_path))[0].state == "folder"


def test_a_file_that_is_gone_or_cannot_be_one_says_so(tmp_path: Path) -> None:
    assert read(str(tmp_path / "gone.txt"))[0].reason == "There is no such file (any more)."
    assert read(str(tmp_path / ("x" * 300)))[0].reason == "Its name is too long for this file system."
    assert read("nul\0nul")[0].reason == "This cannot be the name of a file."


def test_a_file_without_permission_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.txt"
    path.write_text("x")
    path.chmod(0)
    if os.geteuid() == 0:  # root may read everything: let the system call say what it says to others

        def refuse(*_: object, **__: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("agents.reader.opening.os.open", refuse)
    reading = read(str(path))[0]
    assert reading.state == "unreadable"
    assert reading.reason.startswith("Permission denied")


def test_a_name_that_is_not_utf8_travels_as_a_uri(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9\nnew line.txt"
    Path(os.fsdecode(odd)).write_text("Some words for the reader to find here.")
    uri = "file://" + "".join(f"%{byte:02x}" for byte in odd)
    assert os.fsencode(from_wire(uri)) == odd
    assert on_the_wire(read(uri)[0]).state == "read"


def test_what_no_message_can_carry_is_cleaned_from_what_is_found(tmp_path: Path) -> None:
    text = '{"a\\u0000b": 1, "\\ud800": 2, "line\\nbreak": 3}'
    assert names(reading_of(tmp_path / "x.json", text)) == [
        ("key", "a b"),
        ("key", " "),
        ("key", "line break"),
    ]


def test_a_reading_is_bounded_whatever_the_file(tmp_path: Path) -> None:
    many = "".join(f"def function_{n}_{'x' * 300}(): ...\n" for n in range(1000))
    reading = reading_of(tmp_path / "many.py", many)
    assert (len(reading.parts), reading.parts_total) == (PARTS, 1000)
    one_line = reading_of(tmp_path / "min.js", "function f(){return g(1)};" * (LEX_LIMIT // 10))
    for one in (reading, one_line):
        assert len(msgspec.json.encode(one)) < 32_000


def test_a_file_by_its_first_line(tmp_path: Path) -> None:
    assert reading_of(tmp_path / "run", "#!/usr/bin/env bash\necho hi\n").language == "Bash"
    assert reading_of(tmp_path / "tool", "#!/usr/bin/python3\nprint(1)\n").language == "Python"
    assert reading_of(tmp_path / "doc", "<?xml version='1.0'?><a/>").language == "XML"
    assert reading_of(tmp_path / "header.h", "struct a { int b; };").language == "C"
    assert reading_of(tmp_path / "q.sql", "select 1;").language == "SQL"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("read_file: docs/my notes.md", "docs/my notes.md"),
        ("what is in README.md?", "README.md"),
        ("read the file src/app/main.py, please", "src/app/main.py"),
        ("hello there. how are you?", ""),
    ],
)
def test_a_file_named_in_a_sentence(text: str, path: str) -> None:
    assert named_file(text) == path


def test_a_word_that_recurs_in_several_pairs_has_no_weight_below_zero(tmp_path: Path) -> None:
    """`tide` stands in three recurring pairs: taking it out of each once made its weight negative."""
    text = "tide tables; tide harbour; tide master; " * 40
    reading = reading_of(tmp_path / "log.txt", text)
    assert reading.terms
    assert all(weight > 0 for _, weight in reading.terms)
