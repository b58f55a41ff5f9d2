"""When two texts, or two lines of arguments, say the same: words without endings, options in any order."""

from __future__ import annotations

import functools
import re
import shlex

# A number with its sign and exponent, a word in any script that has spaces, or one sign of a script without.
_WORD = re.compile(
    r"\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![^\W\d_])"
    r"|[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
    r"|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)
_COMPOUND = re.compile(r"(?<![^\W_])[^\W_]+(?:[-_][^\W_]+)+")
_ENDINGS = ("ing", "ed", "e")
_SHORTEST_STEM = 3
_LONGEST_TEXT = 20_000  # a query or an entry beyond this is cut: nobody looks for its end

# What one person writes for what another writes otherwise.
_PHRASES = {
    r"\blearning[ -]rates?\b": "lr",
    r"\bweight[ -]decay\b": "wd",
    r"\bbatch[ -]sizes?\b": "batch",
    r"\bwarm[ -]up\b": "warmup",
    r"\bgrad(?:ient)?[ -]clip(?:ping)?\b": "gradclip",
    r"\bget rid of\b": "remove",
}
_SAME = {
    "raise": "up", "increase": "up", "higher": "up", "larger": "up", "bigger": "up", "more": "up",
    "lower": "down", "decrease": "down", "reduce": "down", "smaller": "down", "less": "down", "fewer": "down",
    "shrink": "down", "cut": "down", "remove": "without", "drop": "without", "no": "without",
    "delete": "without", "disable": "without", "double": "double", "twice": "double", "2x": "double",
    "halve": "half", "halved": "half",
}  # fmt: skip
_OPPOSITE = {"up": "down", "down": "up", "double": "half", "half": "double"}
_EMPTY = frozenset(
    re.findall(
        r"\w+",
        "a an the of to in on for with at by and or from is be it this that as into than instead use try let "
        "us we set make change",
    )
)
ALIKE = 0.6  # chosen on the pairs in tests/test_ideas.py: between the highest no and the lowest yes


def words(text: str) -> list[str]:
    """The words of a text for search: lower case, without endings, compounds also as one word."""
    text = text[:_LONGEST_TEXT].casefold()
    found = [stem(word) for word in _WORD.findall(text)]
    return found + [stem(re.sub("[-_]", "", compound)) for compound in _COMPOUND.findall(text)]


def stem(word: str) -> str:
    """The word without its most common English endings: raise, raises and raising are one."""
    if word.endswith("s") and not word.endswith("ss") and len(word) > _SHORTEST_STEM:
        word = word[:-1]
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word[: -len(ending)]
    return word


_STEMMED = {stem(word): same for word, same in _SAME.items()}


def likeness(one: str, other: str) -> float:
    """How much of their meaning two short texts share, 0 to 1; another amount is another idea."""
    first, second = _meaning(one), _meaning(other)
    if any(_OPPOSITE.get(word) in second for word in first) or _amounts(first) != _amounts(second):
        return 0.0
    union = first | second
    return len(first & second) / len(union) if union else 0.0


def alike(one: str, other: str) -> bool:
    """Whether two texts probably mean the same experiment."""
    return likeness(one, other) >= ALIKE


@functools.lru_cache(maxsize=256)  # a new hypothesis meets every earlier one
def _meaning(text: str) -> frozenset[str]:
    text = text[:_LONGEST_TEXT].casefold()
    for phrase, short in _PHRASES.items():
        text = re.sub(phrase, short, text)
    found = (word for word in _WORD.findall(text) if word not in _EMPTY)
    return frozenset(_STEMMED.get(stem(word), stem(word)) for word in found)


def _amounts(meaning: frozenset[str]) -> frozenset[float]:
    return frozenset(float(word) for word in meaning if word[0].isdecimal() and _is_number(word))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def arguments(line: str) -> tuple[tuple[str, ...], ...]:
    """The options of an argument line with their values, in one order however they are written.

    Only where order cannot matter: no option twice, and nothing in front of the first option. Raises
    ValueError for a quote that is not closed.
    """
    groups: list[list[str]] = []
    for word in shlex.split(line):
        if re.match(r"--?[A-Za-z]", word):
            name, equals, value = word.partition("=")
            groups.append([name, value] if equals else [name])
        elif groups:
            groups[-1].append(word)
        else:
            return (tuple(shlex.split(line)),)
    names = [group[0] for group in groups]
    ordered = groups if len(set(names)) < len(names) else sorted(groups)
    return tuple(tuple(group) for group in ordered)
