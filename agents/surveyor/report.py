"""The report of a survey in Markdown: first what matters, then a section for every file.

A pure function from findings to text, so that the same findings give the same report.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

TOP: Final = 12
PARTS_SHOWN: Final = 14
READ: Final = frozenset({"read", "sampled"})


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one file: the reader's result (its Reading as a mapping), or why there is none.
    `name` is relative to the folder and fit for people; `attempts` counts the task's."""

    name: str
    reading: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""
    attempts: int = 1

    @property
    def state(self) -> str:
        return "failed" if self.failure else str(self.reading.get("state", "failed"))

    @property
    def size(self) -> int:
        return int(self.reading.get("size", 0))

    @property
    def lines(self) -> int:
        return int(self.reading.get("lines") or 0)

    @property
    def language(self) -> str:
        return str(self.reading.get("language", ""))

    @property
    def why(self) -> str:
        return self.failure or str(self.reading.get("reason", ""))

    @property
    def folder(self) -> str:
        return self.name.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Survey:
    """All findings of one folder. `notes` are sentences about the survey as a whole."""

    folder: str
    findings: tuple[Finding, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    reader: str = "reader"

    @property
    def read(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.state in READ)

    @property
    def unread(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.state not in READ)


def markdown(survey: Survey) -> str:
    chapters = (_overview, _languages, _terms, _largest, _folders, _files, _not_read, _how)
    return "\n".join(line for chapter in chapters for line in chapter(survey)).rstrip() + "\n"


def _overview(survey: Survey) -> Iterator[str]:
    read, states = survey.read, Counter(one.state for one in survey.findings)
    yield f"# Survey of {code(survey.folder)}\n"
    for note in survey.notes:
        yield f"> {note}\n"
    yield "| | |\n|---|---:|"
    yield f"| Files | {len(survey.findings):,} |"
    yield f"| Read | {len(read):,} |"
    for state in sorted(set(states) - READ):
        yield f"| {_STATES.get(state, state).capitalize()} | {states[state]:,} |"
    if survey.left_out:
        yield f"| Links and special files, not followed | {len(survey.left_out):,} |"
    yield f"| Lines | {sum(one.lines for one in read):,} |"
    yield f"| Size | {bytes_in_words(sum(one.size for one in survey.findings))} |\n"


_STATES: Final = {
    "gone": "gone before it was read",
    "link": "a link",
    "special": "a special file",
    "folder": "a folder",
    "failed": "not read: the task failed",
}


def _languages(survey: Survey) -> Iterator[str]:
    files: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for one in survey.read:
        files[one.language] += 1
        lines[one.language] += one.lines
        size[one.language] += one.size
    if not files:
        return
    yield "## Languages\n\n| Language | Files | Lines | Size |\n|---|---:|---:|---:|"
    ranked = sorted(files, key=lambda language: (-lines[language], -size[language], language))
    for language in ranked:
        yield (
            f"| {cell(language)} | {files[language]:,} | {lines[language]:,} | {bytes_in_words(size[language])} |"
        )
    yield ""


def _terms(survey: Survey) -> Iterator[str]:
    best = shared_terms(survey.read)
    if best:
        yield "## What it is about\n"
        yield "Terms that matter in many files: " + ", ".join(f"**{cell(term)}**" for term in best) + ".\n"


def shared_terms(read: Sequence[Finding]) -> list[str]:
    """Terms by how much they matter to the files that have them, and in how many files they do; the
    logarithm keeps one long file from speaking for all."""
    weight: Counter[str] = Counter()
    among: Counter[str] = Counter()
    for one in read:
        for term, count in one.reading.get("terms", ()):
            weight[term] += 1 + round(math.log2(1 + max(int(count), 0)))
            among[term] += 1
    scored = {term: weight[term] * math.log2(1 + among[term]) for term in weight}
    return sorted(scored, key=lambda term: (-scored[term], term))[:16]


def _largest(survey: Survey) -> Iterator[str]:
    largest = sorted(survey.findings, key=lambda one: (-one.size, one.name))[:8]
    largest = [one for one in largest if one.size]
    if len(survey.findings) > 8 and largest:
        yield "## Largest files\n\n| File | Language | Lines | Size |\n|---|---|---:|---:|"
        for one in largest:
            lines = f"{one.lines:,}" if one.lines else "–"
            yield f"| {code(one.name)} | {cell(one.language)} | {lines} | {bytes_in_words(one.size)} |"
        yield ""


def _folders(survey: Survey) -> Iterator[str]:
    groups = _by_folder(survey.findings)
    if len(groups) < 2:
        return
    yield "## Structure\n\n| Folder | Files | Lines | About |\n|---|---:|---:|---|"
    for folder, findings in groups.items():
        about = ", ".join(shared_terms([one for one in findings if one.state in READ])[:5])
        lines = sum(one.lines for one in findings)
        yield f"| {code(folder or './')} | {len(findings):,} | {lines:,} | {cell(about)} |"
    yield ""


def _files(survey: Survey) -> Iterator[str]:
    if survey.findings:
        yield "## Files\n"
    for folder, findings in _by_folder(survey.findings).items():
        if folder:
            yield f"### {code(folder + '/')}\n"
        for one in findings:
            yield from _file(one)


def _file(one: Finding) -> Iterator[str]:
    yield f"#### {code(one.name)}\n"
    if one.state not in READ:
        yield f"*{escaped(one.why)}*\n"
        return
    facts = [
        one.language,
        f"{one.lines:,} line{'s'[: one.lines != 1]}" if one.lines else "",
        bytes_in_words(one.size),
    ]
    yield f"{' · '.join(escaped(fact) for fact in facts if fact)}\n"
    sentences = one.reading.get("sentences", ())
    if sentences:
        by = one.reading.get("by", "local")
        yield (
            "> "
            + escaped(" ".join(_ended(one) for one in sentences))
            + ("\n" if by == "local" else f" (by {escaped(by)})\n")
        )
    parts = outline(one.reading)
    if parts:
        yield f"- {parts}"
    terms = [cell(term) for term, _ in one.reading.get("terms", ())]
    if terms:
        yield f"- Key terms: {', '.join(terms[:8])}"
    if one.why:
        yield f"- Note: {escaped(one.why)}"
    yield ""


def outline(reading: Mapping[str, Any]) -> str:
    """The top parts of a file on one line, grouped by kind: ``Classes: `Store` (3 methods)``."""
    groups: dict[str, list[str]] = defaultdict(list)
    methods: Counter[str] = Counter()
    parts = [part for part in reading.get("parts", ()) if isinstance(part, Mapping)]
    owner, shown = "", 0
    for part in parts:
        if part.get("kind") == "class":
            owner = str(part.get("name"))
        elif part.get("kind") == "method":
            methods[owner] += 1
    for part in parts:
        kind, name = str(part.get("kind")), str(part.get("name"))
        if kind == "method" or shown >= PARTS_SHOWN:
            continue
        shown += 1
        detail = (
            f"{methods[name]} method{'s'[: methods[name] > 1]}"
            if kind == "class" and methods[name]
            else part.get("detail", "")
        )
        groups[kind].append(code(name) + (f" ({escaped(detail)})" if detail else ""))
    total = int(reading.get("parts_total", 0)) - sum(methods.values())
    more = f" … and {total - shown:,} more" if total > shown else ""
    return "; ".join(f"{_plural(kind)}: {', '.join(names)}" for kind, names in groups.items()) + more


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?", ":", "…", '"', ")")) else f"{sentence}."


def _plural(kind: str) -> str:
    return {"class": "Classes", "list": "List"}.get(kind, f"{kind.capitalize()}s")


def _not_read(survey: Survey) -> Iterator[str]:
    rows = [(one.name, one.why) for one in survey.unread] + list(survey.left_out)
    if rows or survey.skipped:
        yield "## Not read, and why\n"
    if rows:
        yield "| Name | Why |\n|---|---|"
        for name, why in sorted(rows):
            yield f"| {code(name)} | {cell(why)} |"
        yield ""
    if survey.skipped:
        yield "Skipped as they hold no one's work: " + ", ".join(code(one) for one in survey.skipped) + ".\n"


def _how(survey: Survey) -> Iterator[str]:
    again = [one for one in survey.findings if one.attempts > 1]
    yield "## How this was made\n"
    yield f"Each file was one task for {code(survey.reader)}, and stands here once."
    if again:
        names = ", ".join(f"{code(one.name)} ({one.attempts})" for one in again[:TOP])
        yield f"Tasks that took more than one attempt: {names}{' …' if len(again) > TOP else ''}."


def _by_folder(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    groups: dict[str, list[Finding]] = defaultdict(list)
    for one in findings:
        groups[one.folder].append(one)
    return dict(sorted(groups.items()))


def bytes_in_words(size: int) -> str:
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def code(text: str) -> str:
    """A code span that holds any text: longer backticks than those within, no pipe that ends a cell."""
    text = text.replace("|", "\\|")
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def escaped(text: str) -> str:
    """Text of a file as text of the report: it cannot start markup or HTML of its own."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))


def cell(text: str) -> str:
    return escaped(text)
