import pytest

from madewithml.text import clean_text, project_text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Using transformers for Transfer-Learning!", "using transformers transfer learning"),
        ("You're going to love it: a 3D U-Net", "going love 3d u net"),
        ("the_cat sat", "the cat sat"),
        ("Café ☕ über   alles", "caf ber alles"),
        ("see https://github.com/a/b now", "see  github com b"),
        ("xhttpy", "x"),
        ("the and of", ""),
        ("", ""),
    ],
)
def test_texts_are_cleaned_as_in_the_lesson(text: str, cleaned: str) -> None:
    """Lower case, no stop words, only ASCII letters and digits; links go after punctuation."""
    assert clean_text(text) == cleaned


def test_a_project_is_title_and_description() -> None:
    """The text is title, space, description, cleaned only if the checkpoint says so."""
    assert project_text("The Title", "Of it.") == "The Title Of it."
    assert project_text("The Title", "Of it.", "clean_text") == "title"


def test_lone_surrogates_are_replaced() -> None:
    """What is no character reaches no tokenizer."""
    assert project_text("a\ud800", "b") == "a? b"


def test_an_unknown_preprocessing_is_refused() -> None:
    """The error names the known ones."""
    with pytest.raises(ValueError, match="choose one of none, clean_text"):
        project_text("a", "b", "lower")
