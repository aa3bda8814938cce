"""The things and people of the world. Short common words, so that each becomes one or two tokens."""

NAMES = (
    "Ada Amir Anna Ben Bea Carl Clara Dan Dora Ella Emil Eva Finn Fred Gina Hana Hugo Ida Ivan Jack Jana Jon Kai Kate "
    "Lena Leo Lily Luca Maya Mia Nora Omar Otto Paul Rosa Sam Sara Tom Uma Zoe"
).split()

FRUITS = "apple apricot banana cherry date fig grape kiwi lemon lime mango melon orange papaya peach pear plum".split()

FOODS = (
    "bacon bean bread butter carrot cheese corn egg flour garlic honey jam leek milk nut oil olive onion pasta pea "
    "pepper potato rice salt soup spinach sugar tea tomato yogurt"
).split()

THINGS = (
    "ball basket bell book bottle bowl box brush bucket button candle card chair clock coin cup desk drum flag fork "
    "glass hammer hat jar key kite ladder lamp map mirror mug nail needle pen pencil pillow plate ring rope ruler "
    "scarf shell shoe spoon stamp stone table ticket towel umbrella vase watch whistle"
).split()

ANIMALS = (
    "bear bee camel cat cow crab deer dog donkey duck eagle fox frog goat goose hen horse lion mouse owl parrot pig "
    "pony rabbit seal sheep snail snake spider swan tiger turtle whale wolf zebra"
).split()

COLOURS = "black blue brown gold green grey orange pink purple red silver white yellow".split()

PLACES = (
    "attic bank barn beach bridge cafe castle cellar church farm field forest garage garden hall harbour hotel kitchen "
    "library market museum office park pool port school shop station studio theatre tower village zoo"
).split()

TOWNS = "Bern Bonn Cork Delft Dover Essen Genoa Ghent Kiel Leeds Lille Lyon Malmo Nice Oslo Paris Porto Rome Turin York".split()

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

JOBS = "baker carpenter cook doctor driver farmer gardener nurse painter pilot singer tailor teacher writer".split()

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
