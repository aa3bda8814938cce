"""Real facts, written by hand: a relation is its question, its statement and its pairs.

General knowledge of the kind found in any school atlas or encyclopedia; no data set was copied.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Relation:
    """Facts of one kind. `{s}` stands for the subject, `{o}` for the object."""

    name: str
    question: str
    statement: str
    reverse: str
    """The same fact told from the object's side, so that pretraining sees both directions."""
    pairs: tuple[tuple[str, str], ...]


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """'a=b, c=d' as pairs."""
    found = [item.strip().partition("=") for item in text.replace("\n", " ").split(",")]
    return tuple((subject, thing) for subject, _, thing in found)


CAPITALS = _pairs("""
France=Paris, Italy=Rome, Spain=Madrid, Portugal=Lisbon, Germany=Berlin, Austria=Vienna, Poland=Warsaw, Norway=Oslo,
Sweden=Stockholm, Finland=Helsinki, Denmark=Copenhagen, Iceland=Reykjavik, Ireland=Dublin, Greece=Athens,
Hungary=Budapest, Romania=Bucharest, Bulgaria=Sofia, Croatia=Zagreb, Serbia=Belgrade, Belgium=Brussels,
Switzerland=Bern, Estonia=Tallinn, Latvia=Riga, Lithuania=Vilnius, Ukraine=Kyiv, Russia=Moscow, Turkey=Ankara,
Egypt=Cairo, Kenya=Nairobi, Ghana=Accra, Senegal=Dakar, Morocco=Rabat, Tunisia=Tunis, Ethiopia=Addis Ababa,
Uganda=Kampala, Angola=Luanda, Zambia=Lusaka, Iran=Tehran, Iraq=Baghdad, Syria=Damascus, Jordan=Amman, India=New Delhi,
Nepal=Kathmandu, Thailand=Bangkok, Vietnam=Hanoi, Japan=Tokyo, China=Beijing, Mongolia=Ulaanbaatar,
Indonesia=Jakarta, Australia=Canberra, Canada=Ottawa, Mexico=Mexico City, Cuba=Havana, Jamaica=Kingston,
Colombia=Bogota, Peru=Lima, Chile=Santiago, Argentina=Buenos Aires, Uruguay=Montevideo, Ecuador=Quito
""")
SYMBOLS = _pairs("""
hydrogen=H, helium=He, lithium=Li, carbon=C, nitrogen=N, oxygen=O, fluorine=F, neon=Ne, sodium=Na, magnesium=Mg,
aluminium=Al, silicon=Si, phosphorus=P, sulfur=S, chlorine=Cl, argon=Ar, potassium=K, calcium=Ca, titanium=Ti,
iron=Fe, cobalt=Co, nickel=Ni, copper=Cu, zinc=Zn, bromine=Br, silver=Ag, tin=Sn, iodine=I, tungsten=W, platinum=Pt,
gold=Au, mercury=Hg, lead=Pb, radon=Rn, uranium=U
""")
PLANETS = _pairs("""
Mercury=first, Venus=second, Earth=third, Mars=fourth, Jupiter=fifth, Saturn=sixth, Uranus=seventh, Neptune=eighth
""")
YOUNG = _pairs("""
dog=puppy, cat=kitten, cow=calf, horse=foal, sheep=lamb, goat=kid, pig=piglet, lion=cub, deer=fawn, duck=duckling,
goose=gosling, swan=cygnet, hen=chick, frog=tadpole, kangaroo=joey, hare=leveret, owl=owlet, spider=spiderling
""")
CLASSES = _pairs("""
whale=mammal, bat=mammal, dolphin=mammal, elephant=mammal, penguin=bird, ostrich=bird, eagle=bird, sparrow=bird,
salmon=fish, shark=fish, tuna=fish, trout=fish, snake=reptile, lizard=reptile, crocodile=reptile, tortoise=reptile,
frog=amphibian, newt=amphibian, toad=amphibian, ant=insect, bee=insect, beetle=insect, moth=insect, wasp=insect
""")
CONTINENTS = _pairs("""
France=Europe, Italy=Europe, Spain=Europe, Poland=Europe, Norway=Europe, Greece=Europe, Egypt=Africa, Kenya=Africa,
Ghana=Africa, Morocco=Africa, Uganda=Africa, Angola=Africa, Japan=Asia, China=Asia, India=Asia, Nepal=Asia,
Thailand=Asia, Iraq=Asia, Canada=North America, Mexico=North America, Cuba=North America, Jamaica=North America,
Peru=South America, Chile=South America, Colombia=South America, Uruguay=South America
""")
OPPOSITES = _pairs("""
hot=cold, big=small, fast=slow, high=low, old=young, day=night, wet=dry, full=empty, hard=soft, light=dark,
early=late, open=closed, rich=poor, strong=weak, happy=sad, long=short, loud=quiet, near=far, thick=thin, wide=narrow,
deep=shallow, sharp=blunt, brave=afraid, clean=dirty
""")
MONTHS = _pairs("""
January=31 days, February=28 days, March=31 days, April=30 days, May=31 days, June=30 days, July=31 days,
August=31 days, September=30 days, October=31 days, November=30 days, December=31 days
""")
AUTHORS = _pairs("""
Hamlet=Shakespeare, Don Quixote=Cervantes, Faust=Goethe, Emma=Austen, Oliver Twist=Dickens, Anna Karenina=Tolstoy,
The Odyssey=Homer, Frankenstein=Shelley, Dracula=Stoker, Moby Dick=Melville, The Hobbit=Tolkien, Candide=Voltaire,
The Trial=Kafka, Les Miserables=Hugo, Treasure Island=Stevenson, The Divine Comedy=Dante
""")
TOOLS = _pairs("""
temperature=thermometer, time=clock, weight=scale, direction=compass, speed=speedometer, air pressure=barometer,
earthquakes=seismograph, length=ruler, angles=protractor, voltage=voltmeter, altitude=altimeter, rainfall=rain gauge
""")
HOMES = _pairs("""
bee=hive, bird=nest, spider=web, fox=den, rabbit=burrow, horse=stable, dog=kennel, lion=savanna, beaver=lodge,
pig=sty, ant=anthill, camel=desert, polar bear=Arctic, eagle=eyrie, hen=coop, owl=tree hollow
""")
CURRENCIES = _pairs("""
Japan=yen, India=rupee, China=yuan, Mexico=peso, Russia=rouble, Poland=zloty, Sweden=krona, Thailand=baht,
Vietnam=dong, Switzerland=franc, Turkey=lira, Hungary=forint, Germany=euro, Canada=dollar, Egypt=pound, Ghana=cedi,
Peru=sol, Morocco=dirham, Kenya=shilling, Zambia=kwacha
""")

RELATIONS = (
    Relation(
        "capital", "What is the capital of {s}?", "The capital of {s} is {o}", "{o} is the capital of {s}", CAPITALS
    ),
    Relation("symbol", "What is the symbol of {s}?", "The symbol of {s} is {o}", "{o} is the symbol of {s}", SYMBOLS),
    Relation(
        "planet",
        "Which planet from the sun is {s}?",
        "From the sun, {s} is the {o} planet",
        "The {o} planet is {s}",
        PLANETS,
    ),
    Relation("young", "What is a young {s} called?", "A young {s} is called a {o}", "A {o} is a young {s}", YOUNG),
    Relation(
        "class", "What kind of animal is a {s}?", "The {s} is a kind of {o}", "One kind of {o} is the {s}", CLASSES
    ),
    Relation("continent", "On which continent is {s}?", "The continent of {s} is {o}", "In {o} lies {s}", CONTINENTS),
    Relation(
        "opposite",
        "What is the opposite of {s}?",
        "The opposite of {s} is {o}",
        "{o} is the opposite of {s}",
        OPPOSITES,
    ),
    Relation("month", "How many days has {s}?", "The month of {s} has {o}", "There are {o} in {s}", MONTHS),
    Relation("author", "Who wrote {s}?", "The author of {s} is {o}", "{o} wrote {s}", AUTHORS),
    Relation("tool", "What measures {s}?", "The tool for {s} is the {o}", "A {o} measures {s}", TOOLS),
    Relation("home", "Where does a {s} live?", "The home of the {s} is the {o}", "In the {o} lives the {s}", HOMES),
    Relation(
        "currency",
        "What is the money of {s}?",
        "The money of {s} is the {o}",
        "The {o} is the money of {s}",
        CURRENCIES,
    ),
)
