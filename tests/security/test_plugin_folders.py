"""Somebody else on this machine, who may write a plugin's folder or has put a link into it: none of it is run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.agent.plugins import find_source, folder_source, load_folder
from swarm.errors import PluginError

CODE = """
from pathlib import Path
from swarm import Plugin
Path(__file__).with_name("was_run").touch()
plugin = Plugin("{name}")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "swarm.toml").write_text("[swarm]\nname = 'x'\n")
    return root


def folder(place: Path, name: str = "purse") -> Path:
    place.mkdir(parents=True)
    (place / "plugin.py").write_text(CODE.format(name=name))
    (place / "part").mkdir()
    (place / "part" / "__init__.py").touch()
    return place


@pytest.mark.parametrize("path", ["", "plugin.py", "part", "part/__init__.py"])
def test_what_everyone_may_write_is_not_run(project: Path, path: str) -> None:
    place = folder(project / "agents" / "purse")
    (place / path).chmod(0o777)
    with pytest.raises(PluginError, match=r"may be written by everyone.*chmod -R o-w"):
        load_folder(place)
    assert not (place / "was_run").exists()
    (place / path).chmod(0o775)
    assert load_folder(place) is not None, "a group may: who shares a project needs it"


def test_compiled_code_that_everyone_may_replace_is_not_run(project: Path) -> None:
    place = folder(project / "agents" / "purse")
    (place / "__pycache__").mkdir()
    (place / "__pycache__").chmod(0o777)
    with pytest.raises(PluginError, match="__pycache__ may be written by everyone"):
        load_folder(place)


def whole_folder(project: Path, outside: Path) -> Path:
    (project / "agents").mkdir()
    (project / "agents" / "purse").symlink_to(outside)
    return project / "agents" / "purse"


def one_file(project: Path, outside: Path) -> Path:
    place = folder(project / "agents" / "purse")
    (place / "plugin.py").unlink()
    (place / "plugin.py").symlink_to(outside / "plugin.py")
    return place


def a_part(project: Path, outside: Path) -> Path:
    place = folder(project / "agents" / "purse")
    (place / "other").symlink_to(outside / "part")
    return place


@pytest.mark.parametrize("link", [whole_folder, one_file, a_part])
def test_a_link_out_of_the_project_is_not_followed(
    project: Path, tmp_path: Path, link: Callable[[Path, Path], Path]
) -> None:
    outside = folder(tmp_path / "elsewhere")
    place = link(project, outside)
    with pytest.raises(PluginError, match="leads out of"):
        load_folder(place)
    assert not (outside / "was_run").exists()


@pytest.mark.parametrize("in_project", [True, False])
def test_a_named_plugin_is_no_way_out_of_an_agents_folder(
    project: Path, tmp_path: Path, in_project: bool
) -> None:
    outside = folder(tmp_path / "elsewhere", "extra")
    agent = folder((project if in_project else tmp_path) / "agents" / "purse")
    (agent / "plugins").mkdir()
    (agent / "plugins" / "extra").symlink_to(outside)
    with pytest.raises(PluginError, match="leads out of"):
        find_source("extra", (), agent).open()
    assert not (outside / "was_run").exists()


def test_links_inside_the_project_and_those_of_mounted_volumes_are_followed(
    project: Path, tmp_path: Path
) -> None:
    """Kubernetes mounts each file as a link to `..data`; a project may share a plugin among its agents."""
    shared = folder(project / "shared", "extra")
    agent = folder(project / "agents" / "purse")
    (agent / "plugins").mkdir()
    (agent / "plugins" / "extra").symlink_to(os.path.relpath(shared, agent / "plugins"))
    assert find_source("extra", (), agent).open().name == "extra"
    mounted = tmp_path / "mounted"
    folder(mounted / "..data")
    (mounted / "plugin.py").symlink_to("..data/plugin.py")
    assert load_folder(mounted) is not None


def test_a_folder_that_is_named_by_hand_may_itself_be_a_link(tmp_path: Path) -> None:
    """Whoever names it outside of any project has chosen where it leads."""
    real = folder(tmp_path / "real")
    (tmp_path / "link").symlink_to(real)
    source = folder_source(tmp_path / "link")
    assert source is not None and source.open().name == "purse"
