"""How often the built-in model chooses right: 44 utterances, 10 actions, 10 texts that mean none.

Thresholds were set while looking at this first table, so its numbers flatter; `LATER` was written
afterwards and is the honest one. The floors are what was measured: a change that chooses worse fails.
"""

from __future__ import annotations

from collections.abc import Iterable

from swarm.agent.models.embedding_local import BundledEmbedding, EmbeddingChooser
from swarm.agent.models.lexical import LexicalChooser
from swarm.agent.models.types import Candidate, ChoiceRequest

ACTIONS = (
    Candidate(
        "SEND_MAIL", "Sends an e-mail to a person.", ("WRITE_EMAIL", "MAIL_TO"),
        ("email Ann that the meeting moved", "send a letter to the team about the release"),
    ),
    Candidate(
        "PLAY_MUSIC", "Plays a song, an album or a playlist.", ("START_SONG", "PUT_ON_MUSIC"),
        ("play some jazz", "put on my morning playlist", "I want to hear the Beatles"),
    ),
    Candidate(
        "SET_REMINDER", "Reminds the user of something at a time.", ("REMIND_ME", "SET_ALARM"),
        ("remind me to call mum at six", "wake me at seven tomorrow"),
    ),
    Candidate(
        "GET_WEATHER", "Tells the weather forecast for a place.", ("WEATHER", "FORECAST"),
        ("will it rain tomorrow in Oslo", "how warm is it outside", "do I need an umbrella"),
    ),
    Candidate(
        "TRANSLATE_TEXT", "Translates text from one language into another.", ("TRANSLATE", "SAY_IN_LANGUAGE"),
        ("what does bonjour mean in English", "say good night in Spanish"),
    ),
    Candidate(
        "SUMMARISE_DOCUMENT", "Writes a short summary of a document or page.", ("SUMMARISE", "TLDR"),
        ("give me the gist of this report", "shorten this article to three lines"),
    ),
    Candidate(
        "SEARCH_WEB", "Looks something up on the internet.", ("GOOGLE", "LOOK_UP"),
        ("find pages about solar panels", "search for cheap flights to Rome"),
    ),
    Candidate(
        "DELETE_FILE", "Removes a file from the disk for good.", ("REMOVE_FILE", "ERASE"),
        ("throw away the old log file", "get rid of draft.txt"),
    ),
    Candidate(
        "CREATE_TASK", "Adds a task to the to-do list.", ("ADD_TODO", "NEW_TICKET"),
        ("put buying milk on my list", "open a ticket for the broken login"),
    ),
    Candidate(
        "CALCULATE", "Works out arithmetic and percentages.", ("COMPUTE", "DO_MATHS"),
        ("what is 12 times 9", "how much is 15 percent of 80"),
    ),
)  # fmt: skip

UTTERANCES = (
    ("write an email to Bob saying thanks", "SEND_MAIL"),
    ("could you mail the invoice to our customer?", "SEND_MAIL"),
    ("let Ann know by e-mail that I'm late", "SEND_MAIL"),
    ("send a message to the team about tomorrow's release", "SEND_MAIL"),
    ("put on something by Miles Davis", "PLAY_MUSIC"),
    ("play my workout playlist", "PLAY_MUSIC"),
    ("I'd like to hear a song", "PLAY_MUSIC"),
    ("start the new album from Adele", "PLAY_MUSIC"),
    ("turn some tunes on", "PLAY_MUSIC"),
    ("remind me to water the plants", "SET_REMINDER"),
    ("don't let me forget the dentist on Friday", "SET_REMINDER"),
    ("set an alarm for half past six", "SET_REMINDER"),
    ("wake me up at eight", "SET_REMINDER"),
    ("what's the weather like in Paris?", "GET_WEATHER"),
    ("is it going to rain this weekend", "GET_WEATHER"),
    ("will I need an umbrella today", "GET_WEATHER"),
    ("how cold does it get tonight outside", "GET_WEATHER"),
    ("forecast for Berlin please", "GET_WEATHER"),
    ("translate this sentence into German", "TRANSLATE_TEXT"),
    ("how do you say thank you in Japanese", "TRANSLATE_TEXT"),
    ("what does 'gato' mean in English?", "TRANSLATE_TEXT"),
    ("put this paragraph into French", "TRANSLATE_TEXT"),
    ("summarise the attached report", "SUMMARISE_DOCUMENT"),
    ("tl;dr of this page", "SUMMARISE_DOCUMENT"),
    ("give me a short version of the article", "SUMMARISE_DOCUMENT"),
    ("what's the gist of that document?", "SUMMARISE_DOCUMENT"),
    ("look up the opening hours of the museum", "SEARCH_WEB"),
    ("search the internet for vegan recipes", "SEARCH_WEB"),
    ("find out online who won the cup", "SEARCH_WEB"),
    ("google the nearest pharmacy", "SEARCH_WEB"),
    ("look for cheap hotels in Rome", "SEARCH_WEB"),
    ("delete report.pdf", "DELETE_FILE"),
    ("remove that file from the disk", "DELETE_FILE"),
    ("erase everything in the old log", "DELETE_FILE"),
    ("get rid of notes.txt", "DELETE_FILE"),
    ("add washing the car to my to-do list", "CREATE_TASK"),
    ("make a ticket about the login bug", "CREATE_TASK"),
    ("new task: review the budget", "CREATE_TASK"),
    ("put calling the plumber on my list", "CREATE_TASK"),
    ("what is 7 times 8?", "CALCULATE"),
    ("work out 20 percent of 340", "CALCULATE"),
    ("compute the square root of 144", "CALCULATE"),
    ("how much is 19 plus 23", "CALCULATE"),
    ("divide 90 by 4", "CALCULATE"),
)  # fmt: skip

NONE_OF_THEM = (
    "hello there",
    "thank you, that was lovely",
    "who are you?",
    "I feel a little sad today",
    "my grandmother grew up on a farm",
    "haha, good one",
    "what do you think about philosophy?",
    "never mind",
    "the cat sat on the mat",
    "I disagree with your opinion",
)

LATER = (
    ("drop a line to my landlord about the leak", "SEND_MAIL"),
    ("forward an email to accounting", "SEND_MAIL"),
    ("can we have some classical music on", "PLAY_MUSIC"),
    ("next track of that album please", "PLAY_MUSIC"),
    ("nudge me about the rent on the first", "SET_REMINDER"),
    ("alarm at 5:30", "SET_REMINDER"),
    ("should I wear a coat today", "GET_WEATHER"),
    ("chance of snow in Denver?", "GET_WEATHER"),
    ("what's the Polish word for bread", "TRANSLATE_TEXT"),
    ("turn this letter into Italian", "TRANSLATE_TEXT"),
    ("boil this paper down to the main points", "SUMMARISE_DOCUMENT"),
    ("short summary of chapter two", "SUMMARISE_DOCUMENT"),
    ("see what the internet says about cold showers", "SEARCH_WEB"),
    ("find me a recipe for goulash online", "SEARCH_WEB"),
    ("wipe that folder's temp file", "DELETE_FILE"),
    ("trash the backup file", "DELETE_FILE"),
    ("I need a todo for the tax return", "CREATE_TASK"),
    ("log a ticket: printer jams", "CREATE_TASK"),
    ("add up 3, 14 and 25", "CALCULATE"),
    ("what's a third of 99", "CALCULATE"),
    ("I used to live near the sea", None),
    ("you are very kind", None),
    ("why do people lie?", None),
    ("good evening everyone", None),
    ("that makes no sense to me", None),
    ("my brother is a carpenter", None),
)  # fmt: skip
"""Written after every number was set, and never used to set one: the honest measure."""


async def measure(chooser: LexicalChooser, table: Iterable[tuple[str, str | None]]) -> dict[str, int]:
    """Texts chosen right, given up on, run wrongly (an action that was not meant, or none was)."""
    counts = {"right": 0, "given_up": 0, "wrong": 0}
    for text, meant in table:
        name = (await chooser.choose(ChoiceRequest(text=text, candidates=ACTIONS))).name
        counts["right" if name == meant else "given_up" if name is None else "wrong"] += 1
    return counts


def everything() -> list[tuple[str, str | None]]:
    return [*UTTERANCES, *((text, None) for text in NONE_OF_THEM)]


async def test_words_choose_as_well_as_measured() -> None:
    found = await measure(LexicalChooser(), everything())
    assert found["right"] >= 44 and found["wrong"] <= 1, found


async def test_words_on_later_utterances_give_up_rather_than_run_the_wrong_action() -> None:
    found = await measure(LexicalChooser(), LATER)
    assert found["right"] >= 14 and found["wrong"] <= 2, found


async def test_the_bundled_embedding_chooses_as_well_as_measured() -> None:
    chooser = EmbeddingChooser(BundledEmbedding())
    found = await measure(chooser, everything())
    assert found["right"] >= 52 and found["wrong"] <= 2, found
    later = await measure(chooser, LATER)
    assert later["right"] >= 15 and later["wrong"] <= 8, later
