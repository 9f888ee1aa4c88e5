"""What lint says of a character, and how it is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swarm.character import Finding, lint, lint_character, show

GOOD: dict[str, Any] = {
    "name": "A", "bio": "b", "system": "s", "messageExamples": [[{"name": "u", "content": {"text": "hi"}}]],
}  # fmt: skip
FILES = sorted((Path(__file__).parents[1] / "fixtures/characters").glob("*.json"))


async def test_a_good_character_has_no_findings() -> None:
    assert await lint_character(GOOD) == []


@pytest.mark.parametrize(
    ("more", "level", "where", "words"),
    [
        ({"messageExample": []}, "warning", "messageExample", "did you mean messageExamples?"),
        ({"topcis": []}, "warning", "topcis", "did you mean topics?"),
        ({"post_examples": ["x"]}, "info", "post_examples", "spelled postExamples"),
        ({"style": {"caht": []}}, "warning", "style.caht", "did you mean chat?"),
        ({"style": {"zzz": []}}, "warning", "style.zzz", "the known ones are all, chat, post"),
        (
            {"settings": {"discord": {"apiToken": "x"}}},
            "warning",
            "settings.discord.apiToken",
            "its name says",
        ),
        ({"lore": ["sk-" + "a" * 30]}, "warning", "lore[0]", "looks like a live key"),
        ({"secrets": {"K": "v"}}, "info", "secrets.K", "the environment keeps it"),
        ({"settings": {"secrets": {"K": "v"}}}, "info", "settings.secrets.K", "the environment keeps it"),
        ({"plugins": ["@elizaos/plugin-openai"]}, "info", "plugins[0]", "model provider openai"),
        ({"plugins": ["@elizaos/plugin-evm"]}, "warning", "plugins[0]", "is ignored here"),
        (
            {"plugins": ["no-such-plugin"]},
            "warning",
            "plugins[0]",
            "no installed plugin is named no-such-plugin",
        ),
        ({"clients": ["discord"]}, "info", "clients", "no effect here"),
        ({"system": ""}, "info", "system", "begins with the bio"),
        ({"messageExamples": []}, "info", "messageExamples", "no answers of its own"),
        ({"topics": ["a", "b", "a"]}, "info", "topics", "more than once: a"),
        ({"topics": 3}, "error", "topics", "must be a list of texts"),
        ({"bio": [1]}, "error", "bio[0]", "must be text"),
        ({"name": ""}, "error", "", "Character name is required"),
    ],
)
async def test_each_finding_has_its_level_and_place(
    more: dict[str, Any], level: str, where: str, words: str
) -> None:
    findings = await lint_character({**GOOD, **more})
    assert [(finding.level, finding.where) for finding in findings] == [(level, where)]
    assert words in findings[0].text
    assert "sk-" not in findings[0].text


async def test_the_worst_comes_first_and_decides_the_exit_code(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**GOOD, "clients": ["x"], "topcis": []}))
    findings, code = await lint(str(path))
    assert ([finding.level for finding in findings], code) == (["warning", "info"], 0)
    path.write_text(json.dumps({**GOOD, "topcis": [], "topics": 3}))
    findings, code = await lint(str(path))
    assert ([finding.level for finding in findings], code) == (["error", "warning"], 1)
    path.write_text("{")
    findings, code = await lint(str(path))
    text = f"{path}, line 1: Expecting property name enclosed in double quotes (column 2)"
    assert (findings, code) == ([Finding("error", text)], 1)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_real_files_have_neither_errors_nor_warnings(path: Path) -> None:
    findings, code = await lint(str(path))
    assert code == 0
    assert [finding for finding in findings if finding.level != "info"] == []


async def test_show_gives_the_version_and_no_secrets(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**GOOD, "secrets": {"K": "hidden"}, "settings": {"API_KEY": "hidden"}}))
    shown = await show(str(path))
    assert shown["character"]["username"] == "a"
    assert len(shown["version"]) == 12
    assert "hidden" not in json.dumps(shown)
