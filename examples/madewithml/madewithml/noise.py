"""Random strings, and how many of them a model refuses to tag.

Knows nothing of how probabilities are made.
"""

import random
import string

import numpy as np

NOISE_ROWS = 200
THRESHOLD = 0.9
OTHERWISE = "other"


def random_projects(count: int = NOISE_ROWS, seed: int = 0) -> dict[str, np.ndarray]:
    """Projects without meaning: 4 to 16 random lower-case letters and digits after a space.

    Half of them are titles without a description, half descriptions without a title; the same
    seed gives the same strings. Object arrays `title` and `description` of shape (count,).
    """
    generator = random.Random(seed)
    letters = string.ascii_lowercase + string.digits
    texts = [
        " " + "".join(generator.choices(letters, k=generator.randint(4, 16))) for _ in range(count)
    ]
    return {
        "title": np.array([text if i % 2 else "" for i, text in enumerate(texts)], dtype=object),
        "description": np.array(
            ["" if i % 2 else text for i, text in enumerate(texts)], dtype=object
        ),
    }


def share_answered_other(
    probabilities: np.ndarray, classes: list[str], threshold: float = THRESHOLD
) -> dict[str, float]:
    """Share of rows answered `other`, by the model alone and with a threshold on top.

    Args:
        probabilities: shape (n, k).
        classes: the k class names.
        threshold: least probability of an answer that is given.
    """
    top = np.array(classes, dtype=object)[probabilities.argmax(axis=1)]
    says_other = top == OTHERWISE
    unsure = probabilities.max(axis=1) < threshold
    return {
        "without_threshold": float(says_other.mean()),
        "with_threshold": float((says_other | unsure).mean()),
        "threshold": threshold,
    }
