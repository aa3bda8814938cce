"""The things and people of the world. Short common words, so that each becomes one or two tokens."""

from __future__ import annotations


def _words(text: str) -> list[str]:
    return text.split()


NAMES = _words(
    "Ada Amir Anna Ben Bea Carl Clara Dan Dora Ella Emil Eva Finn Fred Gina Hana Hugo Ida Ivan Jack Jana Jon Kai Kate "
    "Lena Leo Lily Luca Maya Mia Nora Omar Otto Paul Rosa Sam Sara Tom Uma Zoe"
)

FRUITS = _words("apple apricot banana cherry date fig grape kiwi lemon lime mango melon orange papaya peach pear plum")

FOODS = _words(
    "bacon bean bread butter carrot cheese corn egg flour garlic honey jam leek milk nut oil olive onion pasta pea "
    "pepper potato rice salt soup spinach sugar tea tomato yogurt"
)

THINGS = _words(
    "ball basket bell book bottle bowl box brush bucket button candle card chair clock coin cup desk drum flag fork "
    "glass hammer hat jar key kite ladder lamp map mirror mug nail needle pen pencil pillow plate ring rope ruler "
    "scarf shell shoe spoon stamp stone table ticket towel umbrella vase watch whistle"
)

ANIMALS = _words(
    "bear bee camel cat cow crab deer dog donkey duck eagle fox frog goat goose hen horse lion mouse owl parrot pig "
    "pony rabbit seal sheep snail snake spider swan tiger turtle whale wolf zebra"
)

COLOURS = _words("black blue brown gold green grey orange pink purple red silver white yellow")

PLACES = _words(
    "attic bank barn beach bridge cafe castle cellar church farm field forest garage garden hall harbour hotel kitchen "
    "library market museum office park pool port school shop station studio theatre tower village zoo"
)

TOWNS = _words(
    "Bern Bonn Cork Delft Dover Essen Genoa Ghent Kiel Leeds Lille Lyon Malmo Nice Oslo Paris Porto Rome Turin York"
)

DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")

JOBS = _words("baker carpenter cook doctor driver farmer gardener nurse painter pilot singer tailor teacher writer")

NOUNS = sorted({*FRUITS, *FOODS, *THINGS, *ANIMALS})
"""Every noun above once, in alphabetical order."""


def plural(noun: str) -> str:
    """The plural of one of the nouns above."""
    irregular = {"mouse": "mice", "goose": "geese", "sheep": "sheep", "deer": "deer", "wolf": "wolves"}
    if noun in irregular:
        return irregular[noun]
    if noun.endswith(("s", "x", "ch", "sh")) or noun in {"mango", "potato", "tomato"}:
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"
