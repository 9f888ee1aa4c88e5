"""A plugin that declares a wrong type is told so when it is loaded, in a sentence with its name and what to write."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from swarm import Action, Evaluator, Plugin, Provider, Service
from swarm.errors import PluginError
from swarm.plugin import ModelHandler
from swarm.testing import agent, say


async def handler() -> str:
    return "ran"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"similes": "TALLY"}, "similes must be a list of texts, such as [\"TALLY\"], not the text 'TALLY'"),
        ({"similes": [1]}, "similes must be a list of texts"),
        ({"examples": "how many?"}, "examples must be a list, not the text 'how many?'"),
        ({"timeout": "5"}, "timeout must be a number of seconds above 0, not the text '5'"),
        ({"timeout": None}, "timeout must be a number of seconds above 0, not None"),
        ({"timeout": -1}, "timeout must be a number of seconds above 0, not -1"),
        ({"on_failure": "stop"}, "on_failure must be continue or abort or None, not the text 'stop'"),
        ({"parameters": "Expense"}, "parameters must be a msgspec Struct or another class"),
        ({"description": 5}, "description must be a text, not 5"),
    ],
)
def test_an_action_of_a_wrong_type_is_refused_where_it_is_declared(
    fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(PluginError) as refused:
        Action("COUNT", handler, **fields)
    assert str(refused.value).startswith(f"action COUNT: {sentence}")


def test_b6_b7_providers_and_evaluators_of_a_wrong_type_are_refused_where_they_are_declared() -> None:
    with pytest.raises(
        PluginError, match="provider CLOCK: position must be a whole number, not the text '1'"
    ):
        Provider("CLOCK", handler, position="1")  # type: ignore[arg-type]
    with pytest.raises(
        PluginError, match="evaluator MOOD: always_run must be True or False, not the text 'no'"
    ):
        Evaluator("MOOD", handler, always_run="no")  # type: ignore[arg-type]
    with pytest.raises(PluginError, match="action : name must be a text that is not empty"):
        Action("", handler)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"dependencies": "db"}, "dependencies must be a list, not the text 'db'"),
        ({"dependencies": None}, "dependencies must be a list, not None"),
        ({"events": ["turn:ended"]}, "events must be a mapping from an event's name to a list of functions"),
        ({"events": {"turn:ended": handler}}, "events must be a mapping from an event's name to a list"),
        ({"events": {"turn:ended": [5]}}, "events must be a mapping from an event's name to a list"),
        ({"required": "no"}, "required must be True or False, not the text 'no'"),
        ({"on_action_failure": "stop"}, "on_action_failure must be continue or abort, not the text 'stop'"),
        ({"routes": 5}, "routes must be a list, not 5"),
    ],
)
async def test_p15_a_plugin_of_a_wrong_type_is_refused_with_its_name(
    fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(PluginError) as refused:
        async with agent("Ada", Plugin("broken", **fields)):
            pass
    assert str(refused.value).startswith(f"Plugin broken: {sentence}")


async def test_e3_a_service_of_a_wrong_type_is_refused_with_its_plugin() -> None:
    class Letters(Service):
        service_type = "letters"
        dependencies = "db"

    class NotAsync(Service):
        service_type = "not-async"

        def start(self) -> None:  # type: ignore[override]
            """Forgets its async."""

    for kind, sentence in (
        (Letters, "dependencies must be a list of texts"),
        (NotAsync, "start must be an `async def` method."),
    ):
        with pytest.raises(PluginError, match=f"Plugin p: service {kind.__name__}: {sentence}"):
            async with agent("Ada", Plugin("p", services=[kind])):
                pass


async def test_b8_a_model_of_a_wrong_type_is_refused_with_its_plugin() -> None:
    def not_async(request: Any) -> str:
        return "no"

    for model, sentence in (
        (ModelHandler(5, handler, "p"), "model 5: type must be a text that is not empty, not 5"),  # type: ignore[arg-type]
        (ModelHandler("x", handler, "p", "1"), "model x: priority must be a whole number"),  # type: ignore[arg-type]
        (ModelHandler("x", not_async, "p"), "model x: its handler must be an `async def` function"),  # type: ignore[arg-type]
    ):
        with pytest.raises(PluginError, match=f"Plugin p: {sentence}"):
            async with agent("Ada", Plugin("p", models=[model])):
                pass


async def test_d3_similes_as_one_text_once_ran_an_action_by_a_letter_of_it() -> None:
    plugin = Plugin("p")
    with pytest.raises(PluginError, match="similes"):
        plugin.action("COUNT", similes="TALLY")(handler)
    plugin.action("COUNT", similes=["TALLY"])(handler)
    plugin.action("OTHER")(handler)
    async with agent("Ada", plugin) as runtime:
        assert not (await say(runtime, "", data={"action": "T"})).actions[0].success


def test_an_unknown_field_of_a_decorator_has_near_names() -> None:
    with pytest.raises(
        PluginError, match=r"Plugin p: @plugin.action\(\) has no field 'simile'; did you mean similes"
    ):
        Plugin("p").action(simile=["TALLY"])


async def test_what_a_plugin_file_declares_wrongly_is_said_with_the_file_and_its_line(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(
        "from swarm import Plugin\n\nplugin = Plugin('purse')\n\n\n"
        "@plugin.action()\nasync def spend(mesage):\n    return 'x'\n"
    )
    with pytest.raises(PluginError) as refused:
        async with agent("Purse", folder=tmp_path):
            pass
    assert str(refused.value).startswith(
        f"{tmp_path / 'plugin.py'} line 6: The handler of action SPEND asks for"
    )
    assert "did you mean message" in str(refused.value)


async def test_an_optional_plugin_that_declares_a_wrong_type_stops_nobody() -> None:
    well = Plugin("well")
    well.action("GO")(handler)
    async with agent("Ada", Plugin("broken", required=False, dependencies=None), well) as runtime:  # type: ignore[arg-type]
        assert "Plugin broken: dependencies must be a list" in runtime.broken_plugins["broken"]
        assert (await asyncio.wait_for(say(runtime, "go:"), 10)).actions[0].text == "ran"
