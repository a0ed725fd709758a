"""English words of sound captions, by their part in a sentence; what `phrases` knows about the language.

The lists are short on purpose: they hold the vocabulary of captions of sounds (AudioCaps, Clotho), not of English. A
verb that is missing from them is not lost, its clause only stays in one phrase with its neighbour.
"""

from __future__ import annotations

from typing import Literal

Form = Literal["base", "third", "gerund"]


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


# Verbs whose doing is heard.
SOUND_VERBS = word_set(
    """
    accelerate announce answer applaud approach argue baa babble backfire bang bark bash bawl beat beep belch bellow
    blare blast bleat bleep blow boil bolt boom bounce bray break breathe brush bubble bump burble burn burp burst
    bustle buzz cackle call caw chant chat chatter cheep cheer chew chime chip chirp choke chomp chop chortle chuckle
    chug clack clang clank clap clash clatter click clink clip-clop clop close cluck clunk cock collide commentate
    communicate converse coo cook cough crack crackle crank crash creak crinkle croak cross crow crumble crumple crunch
    cry cut dance decelerate deliver dial ding discuss drain drill drip drive drop drum echo engage erupt exclaim
    exhale explode fall fart fiddle fidget file fire fizz flap flip flow flush flutter fly fry fuss gag gallop gargle
    gasp giggle glug gobble grind groan growl grumble grunt gulp gurgle gust hammer hiccup hiss hit holler honk hoot
    howl hum idle ignite inhale jangle jingle kick kiss knock labor lap laugh launch lick load meow mimic moan moo move
    muffle mumble murmur mutter narrate neigh oink open operate pant pass patter pedal peel perform ping pitter-patter
    play pop pound pour power preach propel puff pull pump purr putter quack quake race rain rap rasp rattle release
    rev reverse ride ring rip ripple roar roll rotate row rub rumble run rush rustle sand saw scamper scrap scrape
    scratch scream screech scrub scuff sew shake shatter shift shout shriek shuffle shush shut sigh sing siren sizzle
    skid slam slap slide slither slosh slurp smack smash snap snarl sneeze snicker sniff sniffle snip snore snort sob
    sound speak speed spin spit splash splat splatter spool spray sprinkle sputter squawk squeak squeal squeeze squelch
    stall stamp steam stir stitch stomp strike strum stutter swallow sweep swirl swish swoosh talk tap tear throb thud
    thump thunder tick tick-tock ticktock tinkle toll toot trample travel trickle trill trot tumble tweet twitter type
    unwrap utter vibrate vocalize wail walk warble whack whale wheeze whimper whine whinny whip whir whirl whirr
    whisper whistle whiz whoop whoosh woof work yap yell yelp yip yodel zap zip zoom
    """
)

# Verbs that, of two subjects, are a person's.
HUMAN_VERBS = word_set("applaud chuckle giggle laugh shout sing sneeze snicker sob speak talk whisper yell")

# Verbs that need another word to say what is heard ("starts to rev", "makes noises").
OTHER_VERBS = word_set(
    """
    accompany adjust appear ask attempt become begin bring cause change come continue create decrease do eat emit end
    ensue fade fill follow get give go grow happen have hold increase intensify interrupt join keep let make occur
    pause pick prepare produce put repeat resume return say set shoot sit sleep slow start stay stop struggle take tell
    throw try turn use vary wake wash
    """
)

# Verbs that follow a noun which looks like a verb ("clicks occur", "laughs follow").
OCCURRING = word_set("begin continue ensue follow happen occur start")

# Verbs whose gerund before a noun takes it as an object: in "playing music" music does not play.
TRANSITIVE = word_set(
    """
    adjust beat bring brush call chew chop close cook crank crumple cut deliver dial drop drum eat file fill fry get
    give hammer have hit hold kick launch lick load make open operate peel pick play pour pull pump put release ride
    rip row rub sand saw scrape scratch scrub set sew shake shoot shuffle shut slam smack smash spray squeeze stir
    strike strum take tap tear throw turn type unwrap use wash
    """
)

# The final consonant is doubled before -ing.
_DOUBLED = word_set(
    """
    begin chat chip chop chug clap clip-clop clop cut drip drop drum flap flip gag get glug grin hit hum jog lap let
    nod occur pat pop propel put rap rev rip rub run scrap scrub set shut sit skid slam slap snap snip sob spin spit
    splat stop strum swim tap thud trot tug unwrap whip whir yap yip zap zip
    """
)

BE = word_set("is are was were being")
AUXILIARIES = word_set("is are was were be been can could may might will would has had does did")

# Words that end in -ing and are no gerunds.
NO_GERUNDS = word_set(
    """
    anything bring building ceiling clothing cling ding during evening everything king lightning morning nothing ongoing
    oncoming railing ring sibling sing something spring string swing thing wedding wing
    """
)

# Nouns that form one name with the gerund before them ("sewing machine").
NAMED_BY_GERUND = word_set(
    "alley bell board bowl chair device equipment gear machine machines match pan pool range saw stone tool tools"
)

# Nouns that are sounds.
EVENTS = word_set(
    """
    alarm alarms announcement applause audio ballad bang bangs bark barks beat beats beep beeps bells blast blasts
    bleats blip boom booms bump bumps burp burps burst bursts buzz buzzer chant chants chatter cheers chime chimes
    chirp chirps chuckle clack clacks clang clangs clank clanks claps clatter click clicks clink clinks clip-clops
    commotion conversation conversations coo coos cough coughs crackle crackles crash creak creaks cries croaks
    crunches dialog dialogue dings drums echo echoes explosion explosions fart farts feedback fire fireworks flush
    footfalls footstep footsteps gasp giggle giggles growl growls grunt grunts gunfire gunshot gunshots gurgle gurgles
    hiccup hiss hisses honk honks hoots hooves horn horns hum hums jingle knock knocks laugh laughs laughter lightning
    melody meow meows moans murmur murmurs music neigh noise noises oink oinks pop pops purr quack quacks rattle
    rattles rattling ring rings ringtone roar roars rumble rumbles rustle rustles rustling scrape scrapes scream
    screams screech screeches shot shots shouts sigh sighs signal signals silence siren sirens sizzle slam slaps
    smacks snap snaps sneeze sneezes sniffle sniffles snore snores snort snorts sobs song songs sound sounds speech
    speeches splash splashes splat squawk squawks squeak squeaks squeal squeals static steps tap taps thud thuds thump
    thumps thunder thunderclap thunderclaps tick ticks ticktock ticktocks tone tones tune tunes tweets vibration
    vibrations vocals voice voices wail wails warning whimper whimpers whine whines whispers whistle whistles whoop
    whoosh whooshes yell yells yelps
    """
)

PEOPLE = word_set(
    """
    adult adults announcer audience babies baby boy boys child children choir crowd crowds female females girl girls
    guy guys human humans infant infants kid kids ladies lady male males man men narrator people person persons player
    players singer someone speaker speakers teenager teenagers toddler woman women
    """
)

ANIMALS = word_set(
    """
    animal animals bee bees bird birds bug bugs cat cats chick chicken chickens chicks cow cows cricket crickets crow
    crows dog dogs dove doves duck ducks elephant fowl frog frogs geese goat goats goose hen hens horse horses hound
    insect insects kitten kittens lamb lambs lion livestock mice monkey mosquito mouse owl owls parrot pig pigeon
    pigeons pigs puppies puppy rat rodent rooster roosters seagull seagulls sheep snake turkey turkeys
    """
)

WEATHER_AND_WATER = word_set("breeze hail ocean rain rainfall river sea storm stream surf water waves wind")

THINGS = word_set(
    """
    aircraft airplane ambulance bell bicycle boat bus camera car carriage cars cello chain chainsaw clock computer
    cutlery dish dishes door doors drill drum engine engines fan faucet firecrackers flute food glass guitar gun
    guns hammer helicopter instrument instruments jackhammer jet keyboard lawnmower leaves liquid loudspeaker machine
    machinery machines metal motor motorbike motorboat motorcycle motorcycles motors oil organ pan paper phone piano
    pipe plane planes plastic plates pot radio railroad saw saxophone ship silverware sink speedboat steam strings
    telephone television tires toilet tool tools toy tractor traffic train trains truck trucks trumpet typewriter
    utensils vacuum vehicle vehicles violin weapon wheels wings wood
    """
)

SOURCES = PEOPLE | ANIMALS | WEATHER_AND_WATER | THINGS

DETERMINERS = word_set(
    """
    a an another any both couple different each eight every few five four her his its many more multiple my no numerous
    one other others' our several six some someone's ten that the their these this those three two various
    """
)

PLURALS = word_set("cattle children feet geese livestock men mice oxen people police sheep women")

PREPOSITIONS = word_set(
    """
    about above across against among around at behind below beneath beside between by down during for from in inside
    into like near of off on onto out outside over past through throughout to toward towards under underneath up upon
    via with within without
    """
)

ADJECTIVES = word_set(
    """
    adult audible big black blurry brief bright busy clear close consistent constant continuous dark deafening deep
    diesel different digital distant distorted domestic dry echoing elderly electric electronic electronical empty
    faint far far-off fast female few friendly full gentle hard harsh heavy high high-frequency high-pitched hollow
    human hydraulic inaudible indistinct intermittent large light little long loud low low-pitched male many mature
    mechanical metal metallic mid-size mid-sized mild moderate muffled multiple musical nearby occasional old older
    pitched plastic powerful quick quiet random rapid recorded repeated repetitive rhythmic rough sharp short shrill
    single slight slow small soft solid steady strong sudden sustained synthesized tinny various very white wooden
    young younger
    """
)

ADVERBS = word_set(
    """
    again ahead alike along aloud apart around away back backward by closer down far fast faster forth forward further
    hard here home in indoors inside louder low lower near nearby nearer next off often on once out outdoors outside
    over overhead past quieter shortly slow slower softer sometimes soon steadily there thereafter together too twice
    up well
    """
)
_ADJECTIVES_IN_LY = word_set("elderly family fly friendly lonely bubbly prickly rumbly crackly")

# Words with "and" that are one thing.
IDIOMS = tuple(
    tuple(idiom.split())
    for idiom in (
        "again and again",
        "back and forth",
        "bits and pieces",
        "black and white",
        "bow and arrow",
        "bows and arrows",
        "cup and saucer",
        "cups and saucers",
        "drum and bass",
        "fish and chips",
        "forks and knives",
        "forward and backward",
        "hammer and chisel",
        "here and there",
        "high and low",
        "horse and buggy",
        "horse and carriage",
        "in and out",
        "knife and fork",
        "knives and forks",
        "left and right",
        "lock and key",
        "loud and clear",
        "more and more",
        "mortar and pestle",
        "near and far",
        "now and then",
        "nuts and bolts",
        "off and on",
        "on and off",
        "over and over",
        "pen and paper",
        "pots and pans",
        "rhythm and blues",
        "rock and roll",
        "stop and go",
        "to and fro",
        "up and down",
    )
)


def conjugated(verb: str) -> tuple[str, str, str]:
    """Return the base form of a verb, its third person singular and its gerund, such as "buzz", "buzzes", "buzzing"."""
    if verb == "have":
        return verb, "has", "having"
    if verb.endswith(("s", "x", "z", "ch", "sh")) or verb in {"do", "go", "echo"}:
        third = f"{verb}es"
    elif verb.endswith("y") and verb[-2] not in "aeou":
        third = f"{verb[:-1]}ies"
    else:
        third = f"{verb}s"
    if verb.endswith("e") and not verb.endswith("ee"):
        stem = verb[:-1]
    else:
        stem = verb + verb[-1] if verb in _DOUBLED else verb
    return verb, third, f"{stem}ing"


def _forms() -> dict[str, dict[Form, str]]:
    forms: dict[str, dict[Form, str]] = {}
    for verb in sorted(SOUND_VERBS | OTHER_VERBS):
        base, third, gerund = conjugated(verb)
        forms.setdefault(base, {})["base"] = verb
        forms.setdefault(third, {})["third"] = verb
        forms.setdefault(gerund, {})["gerund"] = verb
    return forms


_FORMS = _forms()


def verb_form(word: str, form: Form) -> str | None:
    """Return the base form of the verb whose `form` this word can be; a gerund may be of a verb that is not listed."""
    if word in NO_GERUNDS and form == "gerund":
        return None
    found = _FORMS.get(word, {}).get(form)
    if found is None and form == "gerund" and word.endswith("ing") and len(word) > len("ring"):
        return word
    return found


def is_plural(word: str) -> bool:
    """Return whether a noun looks like a plural."""
    return word in PLURALS or (word.endswith("s") and not word.endswith(("ss", "us", "is")))


def is_adverb(word: str) -> bool:
    """Return whether a word can be an adverb."""
    return word in ADVERBS or (word.endswith("ly") and word not in _ADJECTIVES_IN_LY)


def is_event(word: str) -> bool:
    """Return whether a word can be a noun that means a sound: "laughter", "horn", "humming"."""
    gerund = verb_form(word, "gerund")
    return word in EVENTS or (gerund is not None and gerund in SOUND_VERBS)


def is_sounding(word: str) -> bool:
    """Return whether a word means a sound, something that is heard doing, or a thing that makes sounds."""
    if word in SOURCES or is_event(word):
        return True
    return any(verb in SOUND_VERBS for verb in _FORMS.get(word, {}).values())


def source_class(word: str) -> int | None:
    """Return a number for people, animals, weather and water, or things; None for other words."""
    kinds = (PEOPLE, ANIMALS, WEATHER_AND_WATER, THINGS)
    return next((number for number, kind in enumerate(kinds) if word in kind), None)
