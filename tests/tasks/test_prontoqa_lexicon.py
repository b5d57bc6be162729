"""The lexicon knows every word of the language, and tells a text's words apart without a gap."""

from hypothesis import given
from hypothesis import strategies as st

from circuitkit.tasks import prontoqa
from circuitkit.tasks.prontoqa.lexicon import FUNCTION_WORDS, PARTS_OF_SPEECH, part_of_speech, tagged


def test_every_word_of_the_language_has_a_part_of_speech():
    unknown = [word for word in prontoqa.words() if part_of_speech(word) == "other"]
    assert unknown == []
    assert {part_of_speech(word) for word in prontoqa.words()} | {"other"} == set(PARTS_OF_SPEECH)
    assert set(PARTS_OF_SPEECH) > FUNCTION_WORDS


def test_words_have_the_parts_of_speech_that_a_grammar_gives_them():
    said = "Everything that is a lempus or an impus is not bright. This contradicts with Fae is a shumpus."
    parts = [part for _, _, part in tagged(said) if part not in ("space", "punctuation")]
    assert parts == [
        *("pronoun", "pronoun", "copula", "determiner", "concept", "conjunction", "determiner", "concept"),
        *("copula", "negation", "property"),
        *("pronoun", "verb", "preposition", "entity", "copula", "determiner", "concept"),
    ]


def test_the_answers_mark_is_no_article():
    said = "Q: A wumpus is bright. A dumpus is dull.\nA: Fae"
    marks = [said[start:end] for start, end, part in tagged(said) if part == "marker"]
    assert marks == ["Q", "A"]
    assert sum(part == "determiner" for _, _, part in tagged(said)) == 2


@given(st.text(alphabet="Fae wumpus.,:\n\tA-'é1_", max_size=40))
def test_tags_cover_a_text_from_its_start_to_its_end(text):
    spans = list(tagged(text))
    assert "".join(text[start:end] for start, end, _ in spans) == text
    assert [start for start, _, _ in spans] == [0, *(end for _, end, _ in spans)][: len(spans)]
