"""What the model reads: the one text made from a project, and the lesson's cleaning of it.

Knows nothing of tokens, models or files. Training, evaluation and serving all call
`project_text`, so that a project is spelled the same way everywhere.
"""

import re

PREPROCESSING = ("none", "clean_text")

# The usual English stop words, without apostrophes: "don't" is read as the words "don" and "t".
_STOP_WORDS = """
i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her
hers herself it its itself they them their theirs themselves what which who whom this that these
those am is are was were be been being have has had having do does did doing a an the and but if or
because as until while of at by for with about against between into through during before after
above below to from up down in out on off over under again further then once here there when where
why how all any both each few more most other some such no nor not only own same so than too very s
t can will just don should now d ll m o re ve y ain aren couldn didn doesn hadn hasn haven isn ma
mightn mustn needn shan shouldn wasn weren won wouldn
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

_WORD = re.compile(r"\w+")
_NOT_ALPHANUMERIC = re.compile(r"[^A-Za-z0-9]+")
_LINK = re.compile(r"http\S+")


def clean_text(text: str) -> str:
    """Clean a text as the lesson does before its model sees it.

    Lower case; English stop words removed; punctuation and every other character that is not an
    ASCII letter or digit becomes a space; runs of spaces become one. Links go last, as in the
    lesson, when their punctuation has already been spaced out: only the part glued to "http" is
    still there to be removed, and that is what the lesson's weights were trained on.
    """
    words = (word for word in _WORD.findall(text.lower()) if word not in STOP_WORDS)
    text = _NOT_ALPHANUMERIC.sub(" ", " ".join(words)).strip()
    return _LINK.sub("", text)


def project_text(title: str, description: str, preprocessing: str = "none") -> str:
    """The text of a project: title, space, description, cleaned as the checkpoint says.

    Args:
        title: any text, also empty.
        description: any text, also empty.
        preprocessing: "none" or "clean_text".

    Raises:
        ValueError: the preprocessing is not known.
    """
    # A lone surrogate is no character; the tokenizer cannot take it, and it says nothing.
    text = f"{title} {description}".encode("utf-8", "replace").decode("utf-8")
    if preprocessing == "none":
        return text
    if preprocessing == "clean_text":
        return clean_text(text)
    raise ValueError(
        f"preprocessing {preprocessing!r} is not known: choose one of {', '.join(PREPROCESSING)}"
    )
