"""A lazy plugin that is installed: its manifest is read beside its module, which is imported on first use (G1 to G3).

Each test installs a distribution of its own into a folder on `sys.path`: the code, its manifest and the
metadata that pip would write.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from swarm.agent.manifest import Manifest, manifest_of, read_manifest, write_manifest
from swarm.agent.plugins import load_folder
from swarm.errors import PluginError
from swarm.plugin import Plugin
from swarm.testing import agent, say

GALLERY = Path(__file__).parents[2] / "agents"
CODE = """
from swarm import Plugin

plugin = Plugin("{name}", "Tells the tide.")


@plugin.action(similes=["SEA"], examples=["tide: Brest"])
async def tide(message):
    "Tells the tide of a harbour."
    return "high water at noon"
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("harbour_plugin", "tide_module"):
            del sys.modules[name]


def install(site: Path, name: str, target: str, files: dict[str, str]) -> None:
    """What `pip install` leaves: the files, METADATA, and the entry point of the group that is looked in."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[swarm.plugins]\n{name} = {target}\n")
    for path, text in files.items():
        place = site / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def manifest_text(name: str, folder: Path) -> str:
    """As `python -m swarm.agent.manifest` writes it for this code, from a folder of its own."""
    folder.mkdir()
    (folder / "plugin.py").write_text(CODE.format(name=name))
    plugin = load_folder(folder)
    assert isinstance(plugin, Plugin)
    write_manifest(plugin, folder / "plugin.json")
    return (folder / "plugin.json").read_text()


@pytest.mark.parametrize(
    ("module", "code", "manifest"),
    [
        ("harbour_plugin.tides", "harbour_plugin/tides.py", "harbour_plugin/tides.plugin.json"),
        ("harbour_plugin", "harbour_plugin/__init__.py", "harbour_plugin/plugin.json"),
        ("tide_module", "tide_module.py", "tide_module.plugin.json"),
    ],
)
async def test_g3_an_installed_plugin_is_offered_by_its_manifest_and_imported_on_first_use(
    site: Path, tmp_path: Path, module: str, code: str, manifest: str
) -> None:
    files = {code: CODE.format(name="tides"), manifest: manifest_text("tides", tmp_path / "made")}
    if "/" in code:
        files = {"harbour_plugin/__init__.py": "", **files}
    install(site, "tides", f"{module}:plugin", files)
    character = {"name": "Ada", "bio": "x", "plugins": ["tides"], "settings": {"load": "lazy"}}
    async with agent(character) as runtime:
        assert list(runtime.loading.available) == ["tides"]
        assert "TIDE" in runtime.offered_actions and "TIDE" not in runtime.actions
        assert module not in sys.modules
        assert "harbour_plugin" not in sys.modules
        answer = await say(runtime, "sea: Brest")
        assert answer.response is not None and answer.response.text == "high water at noon"
        assert module in sys.modules
        assert [plugin.name for plugin in runtime.plugins] == ["tides"]


async def test_g3_an_installed_plugin_that_is_not_its_manifest_fails_its_action_and_names_itself(
    site: Path, tmp_path: Path
) -> None:
    old = manifest_text("tides", tmp_path / "made")
    renamed = CODE.format(name="tides").replace("async def tide", "async def ebb")
    install(site, "tides", "tide_module:plugin", {"tide_module.py": renamed, "tide_module.plugin.json": old})
    character = {"name": "Ada", "bio": "x", "plugins": ["tides"], "settings": {"load": "lazy"}}
    async with agent(character) as runtime:
        with pytest.raises(PluginError, match="tides is not what its manifest says: it has no TIDE"):
            await runtime.get_action("TIDE")


def test_the_gallerys_manifests_are_what_their_plugins_offer() -> None:
    manifests = sorted(GALLERY.glob("*/plugin.json"))
    assert [file.parent.name for file in manifests] == ["librarian"]
    for file in manifests:
        plugin = load_folder(file.parent)
        assert plugin is not None
        written = read_manifest(file)
        assert _text(written) == _text(manifest_of(plugin)), (
            f"write it again: python -m swarm.agent.manifest agents/{file.parent.name}"
        )


def _text(manifest: Manifest | None) -> bytes:
    return msgspec.json.encode(manifest, enc_hook=str, order="sorted")
