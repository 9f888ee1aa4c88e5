"""The documents point at what exists: files of the tree, tests that prove an invariant, each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordinator.metrics import Metrics
from tests.architecture.tree import names_of_tests

ROOT = Path(__file__).parents[2]
DOCUMENTS = [str(file.relative_to(ROOT)) for file in sorted((ROOT / "docs").rglob("*.md"))]
PROOFS = sorted(set(re.findall(r"`(\w+)::(test_\w+)`", (ROOT / "docs/reliability.md").read_text())))
ATTACKS = sorted(set(re.findall(r"`(\w+)::(test_\w+)`", (ROOT / "docs/security.md").read_text())))
INVARIANTS = 16
_FILE = re.compile(
    r"`((?:bus|swarm|coordinator|deploy|tests|agents|bench|docs)/[\w/.-]+\.(?:py|sql|md|json|toml))`"
)
_LINK = re.compile(r"\]\(([^)#:]+\.md)?(#[\w-]+)?\)")


@pytest.mark.parametrize(("folder", "name"), PROOFS)
def test_a_proof_that_is_named_exists(folder: str, name: str) -> None:
    assert name in names_of_tests(folder), f"docs/reliability.md names {name}, which is not in tests/{folder}"


@pytest.mark.parametrize(("folder", "name"), ATTACKS)
def test_an_attack_that_is_named_is_tried(folder: str, name: str) -> None:
    assert name in names_of_tests(folder), f"docs/security.md names {name}, which is not in tests/{folder}"


def test_every_attack_has_a_test() -> None:
    rows = re.findall(r"^\| .* \|$", (ROOT / "docs/security.md").read_text().partition("## Attacks")[2], re.M)
    assert len(rows) > 20 and len(ATTACKS) > 40
    assert all(re.search(r"`\w+::test_\w+` \|$", row) for row in rows[1:])


def test_the_proofs_are_found() -> None:
    assert len(PROOFS) >= 2 * INVARIANTS


def test_every_invariant_has_its_row() -> None:
    text = (ROOT / "docs/reliability.md").read_text()
    assert re.findall(r"^\| (I\d+) \|", text, re.M) == [f"I{n}" for n in range(1, INVARIANTS + 1)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_file_that_is_named_exists(document: str) -> None:
    # Examples in guides name files of the reader's own project.
    text = re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(), flags=re.M | re.S)
    of_the_reader = {
        f"agents/{name}/{file}"
        for name in ("clerk", "counter", "purse")
        for file in ("plugin.py", "character.json")
    }
    missing = [file for file in set(_FILE.findall(text)) - of_the_reader if not (ROOT / file).exists()]
    assert not missing, f"{document} names {', '.join(sorted(missing))}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_link_leads_somewhere(document: str) -> None:
    here = ROOT / document
    for file, anchor in _LINK.findall(here.read_text()):
        target = (here.parent / file).resolve() if file else here
        assert target.is_file(), f"{document} links to {file}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor[1:] in slugs, f"{document} links to {file}{anchor}"


METRIC = re.compile(r"`?\b(swarm_[a-z_]+)\b")


@pytest.mark.parametrize("document", ["docs/runbook.md", "docs/guide/metrics.md"])
def test_a_metric_that_is_named_is_told_by_somebody(document: str) -> None:
    code = "".join(
        (ROOT / file).read_text()
        for file in ("swarm/agent/families.py", "coordinator/families.py", "deploy/node_pages.py")
    )
    own = {f"swarm_coordinator_{name}_total" for name in Metrics().as_dict()}
    named = set(METRIC.findall((ROOT / document).read_text())) - {"swarm_coordinator_"}
    missing = {name for name in named if name not in own and f'"{name}"' not in code}
    assert not missing, f"{document} names {', '.join(sorted(missing))}"
