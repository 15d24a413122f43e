"""The lines on which the tokenizers are compared: odd Unicode, digits, code, whitespace, chats.

lines(seed, count, special) returns `count` byte strings, the same for the same arguments. `special`
are special tokens to sprinkle in. Some lines are not valid UTF-8. Standard library only.
"""

import random
import unicodedata

ENGLISH = """
the of and to in is that it was for on are as with they at be this have from or had by hot but
some what there we can out other were all your when up use word how said an each she which do
their time if will way about many then them would write like so these her long make thing see him
two has look more day could go come did my sound no most number who over know water than call
first people may down side been now find any new work part take get place made live where after
back little only round man year came show every good me give our under name very through just form
much great think say help low line before turn cause same mean differ move right boy old too does
tell sentence set three want air well also play small end put home read hand port large spell add
even land here must big high such follow act why ask men change went light kind off need house
picture try us again animal point mother world near build self earth father Internationalization
antidisestablishmentarianism
""".split()

CONTRACTIONS = [
    "don't",
    "I'm",
    "we'll",
    "they're",
    "it's",
    "I've",
    "he'd",
    "DON'T",
    "I'M",
    "WE'LL",
    "it\u2019s",
    "'s",
    "'S",
    "'\u017f",
    "'ll've",
    "rock 'n' roll",
    "'tis",
    "o'clock",
    "y'all'd've",
    "'re",
    "'RE",
    "'rE",
    "s'",
    "''s",
    "'t't",
    "' s",
    "'m1",
    "'d.",
]

CODE = [
    "def f(x):\n    return x ** 2  # square\n",
    "for (int i = 0; i < n; ++i) {\n\ta[i] += b[i];\n}",
    "<div class=\"a-b\" id='x'>&nbsp;</div>",
    "SELECT * FROM t WHERE a >= 10 AND b LIKE '%x_';",
    '{"key": [1, 2.5e-3, null, true], "\\u00e9": {}}',
    "#include <vector>\n#define X(a) ((a) + 1)",
    '\t\tif err != nil {\n\t\t\treturn fmt.Errorf("%w", err)\n\t\t}\n',
    "x = [i for i in range(10)]",
    "    \n\n\n    pass\n",
    "a\r\nb\r\n\r\nc\rd",
    "fn main() -> Result<(), Box<dyn Error>> {",
    "$HOME/.bashrc",
    "https://example.org/a/b?c=d&e=%20f#g",
    "user.name+tag@mail.example.co.uk",
    "C:\\Users\\x\\y.txt",
    "0xDEADBEEF 0b1010 1_000_000 3.14159 1e-10 .5 5.",
    "SGVsbG8gV29ybGQ=",
    "d41d8cd98f00b204e9800998ecf8427e",
    "camelCaseWord snake_case_word SCREAMING_CASE kebab-case",
    "!=== ->> <<= ::** //--",
    "/* c */ // d",
]

EMOJI = [
    "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f44d\U0001f3fd",
    "\u2764\ufe0f",
    "\U0001f1e9\U0001f1ea",
    "\U0001f3f3\ufe0f\u200d\U0001f308",
    "1\ufe0f\u20e3",
    "\U0001fae8",
    "\u00a9",
    "\U0001f9d1\u200d\U0001f4bb",
    "\u2603",
    "\U0001f3f4\U000e0067\U000e0062\U000e007f",
    "\u231a\ufe0e",
]

SPACES = (
    [chr(c) for c in range(9, 14)]
    + [" "] * 12
    + ["\n"] * 4
    + ["\t"] * 3
    + [chr(c) for c in range(0x2000, 0x200E)]
    + list("\x85\xa0\u1680\u180e\u2028\u2029\u202f\u205f\u2060\u3000\ufeff\x1c\x1d\x1e\x1f")
)

# First and last code point of a script's block.
SCRIPTS = [
    (0xC0, 0x24F),
    (0x250, 0x2AF),
    (0x370, 0x3FF),
    (0x400, 0x52F),
    (0x531, 0x587),
    (0x5D0, 0x5EA),
    (0x600, 0x6FF),
    (0x700, 0x74F),
    (0x900, 0x97F),
    (0x980, 0x9FF),
    (0xB80, 0xBFF),
    (0xE00, 0xE7F),
    (0xF00, 0xFFF),
    (0x1000, 0x109F),
    (0x10A0, 0x10FF),
    (0x1100, 0x11FF),
    (0x1200, 0x137F),
    (0x1780, 0x17FF),
    (0x1800, 0x18AF),
    (0x1E00, 0x1EFF),
    (0x1F00, 0x1FFF),
    (0x3040, 0x30FF),
    (0x3130, 0x318F),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0xFB00, 0xFDFF),
    (0xFE70, 0xFEFF),
    (0xFF00, 0xFFEF),
    (0x10000, 0x100FF),
    (0x10330, 0x1034F),
    (0x1D400, 0x1D7FF),
    (0x20000, 0x2A6DF),
]

# Added by Unicode 15 and 16.
LATER = [
    (0x11F00, 0x11F5A),
    (0x1E4D0, 0x1E4F9),
    (0x31350, 0x323AF),
    (0x2EBF0, 0x2EE5D),
    (0x10D40, 0x10D8F),
    (0x1CC00, 0x1CCF9),
    (0x1E030, 0x1E06D),
    (0xA7CB, 0xA7DC),
    (0x11DE0, 0x11DE9),
]

NUMERIC = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and chr(c).isnumeric()]
MARKS = [c for c in range(0x300, 0x20F0) if unicodedata.category(chr(c)).startswith("M")]
PUNCTUATION = (
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    "\u2013\u2014\u2018\u2019\u201c\u201d\u2026\u00bf\u00a1\u3002\u300c\u300d\u20ac\u00a3"
)


def _one(rng, ranges):
    first, last = rng.choice(ranges)
    return chr(rng.randint(first, last))


class _Maker:
    def __init__(self, rng, special):
        self.rng = rng
        self.special = special

    def many(self, make, low, high, joint=""):
        return joint.join(make() for _ in range(self.rng.randint(low, high)))

    def word(self):
        word = self.rng.choice(ENGLISH)
        return self.rng.choice([word, word, word, word.capitalize(), word.upper(), word + "ing"])

    def english(self):
        rng = self.rng
        words = [
            rng.choice(CONTRACTIONS) if rng.random() < 0.1 else self.word()
            for _ in range(rng.randint(3, 16))
        ]
        text = words[0]
        for word in words[1:]:
            text += (
                rng.choice([" "] * 12 + [", ", ". ", "; ", " - ", "  ", "\n", ': "', '" ']) + word
            )
        return text + rng.choice([".", "!", "?", "...", "", "\n"])

    def number(self):
        rng = self.rng
        return rng.choice(
            [
                str(rng.randrange(10 ** rng.randint(1, 12))),
                "%.3f" % rng.uniform(-1e4, 1e4),
                "{:,}".format(rng.randrange(10**9)),
                chr(rng.choice(NUMERIC)),
                self.many(lambda: chr(rng.choice(NUMERIC)), 1, 5),
                "%d/%d/%d" % (rng.randint(1, 31), rng.randint(1, 12), rng.randint(1900, 2100)),
            ]
        )

    def spaces(self):
        if self.rng.random() < 0.4:
            return self.rng.choice(" \n\t") * self.rng.randint(1, 30)
        return self.many(lambda: self.rng.choice(SPACES), 1, 8)

    def script(self):
        first, last = self.rng.choice(SCRIPTS)
        return self.many(lambda: chr(self.rng.randint(first, last)), 1, 8)

    def marks(self):
        return self.many(
            lambda: self.rng.choice("aeionAcz\u05d0\u0627\u0915\uac00")
            + self.many(lambda: chr(self.rng.choice(MARKS)), 0, 4),
            1,
            5,
        )

    def control(self):
        return self.many(
            lambda: chr(self.rng.choice(list(range(32)) + list(range(127, 161)))), 1, 4
        )

    def anything(self):
        c = self.rng.choice(
            [self.rng.randrange(0x800), self.rng.randrange(0x10000), self.rng.randrange(0x110000)]
        )
        return "\ufffe" if 0xD800 <= c < 0xE000 else chr(c)

    def later(self):
        return self.many(lambda: _one(self.rng, LATER), 1, 4)

    def chat(self):
        rng = self.rng
        token = rng.choice(self.special)
        return rng.choice(
            [
                token,
                token,
                token[:-1],
                token[1:],
                token.upper(),
                " " + token,
                token + "\n",
                token + rng.choice(self.special),
                "  " + token + "  ",
            ]
        )

    def invalid(self):
        rng = self.rng
        good = self.rng.choice([self.script(), self.word(), self.rng.choice(EMOJI)]).encode()
        cut = rng.randrange(len(good) + 1)
        bad = bytes(
            rng.choice(
                [
                    0x80,
                    0xBF,
                    0xC0,
                    0xC1,
                    0xC3,
                    0xE0,
                    0xE2,
                    0xED,
                    0xA0,
                    0x9F,
                    0xF0,
                    0xF1,
                    0xF4,
                    0x90,
                    0xF5,
                    0xFE,
                    0xFF,
                    0x41,
                ]
            )
            for _ in range(rng.randint(0, 4))
        )
        return good[:cut] + bad + good[cut + rng.randint(0, 1) :]

    def piece(self):
        rng = self.rng
        make = rng.choice(
            [
                self.word,
                self.word,
                self.number,
                self.spaces,
                self.script,
                self.marks,
                self.control,
                self.anything,
                self.later,
                self.chat,
                lambda: rng.choice(EMOJI),
                lambda: rng.choice(CODE),
                lambda: rng.choice(CONTRACTIONS),
                lambda: rng.choice(PUNCTUATION) * rng.choice([1, 1, 1, 2, 5]),
            ]
        )
        return make() + rng.choice(["", "", " ", "  "])

    def line(self):
        rng = self.rng
        kind = rng.random()
        if kind < 0.22:
            return self.english().encode()
        if kind < 0.27:
            return self.many(self.number, 1, 6, rng.choice([" ", "", ", "])).encode()
        if kind < 0.32:
            return self.many(lambda: self.spaces() + self.word(), 1, 6).encode()
        if kind < 0.38:
            return self.many(self.script, 1, 6, rng.choice([" ", ""])).encode()
        if kind < 0.42:
            return self.many(self.marks, 1, 4, " ").encode()
        if kind < 0.47:
            return self.many(self.anything, 1, 20).encode()
        if kind < 0.52:
            return self.many(lambda: rng.choice(CODE), 1, 2, "\n").encode()
        if kind < 0.57:
            return self.many(lambda: self.chat() + self.word(), 1, 5).encode()
        if kind < 0.60:
            return self.many(lambda: rng.choice(EMOJI), 1, 6, rng.choice([" ", ""])).encode()
        if kind < 0.68:
            return b" ".join(self.invalid() for _ in range(rng.randint(1, 4)))
        if kind < 0.685:
            return (
                rng.choice(["a", "ab", "\n", " ", "the", "\u00e9", "=", "9", "\u4e2d"])
                * rng.randint(20, 300)
            ).encode()
        return self.many(self.piece, 2, 9).encode()


def lines(seed, count, special):
    maker = _Maker(random.Random(seed), special)
    fixed = [
        b"",
        b"a  2",
        b" ",
        b"\x00",
        b"\x04\x06\x13\x14\x16\x1d",
        b"t\x04h\x04e",
        b"Hello, world!",
        "caf\u00e9 cafe\u0301 \u212b \u0344".encode(),
        b"\xf0\x9f\x98",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
    ]
    fixed += [bytes([b]) for b in range(256)]
    return fixed + [maker.line() for _ in range(count - len(fixed))]
