"""Writes what the tokenizer and chat template tests compare with, using the original libraries.

Run by hand in an environment with tokenizers 0.23, jinja2 3.1 and gguf (versions are written in
the headers of the files):

  python make_golden.py gguf MODEL.gguf FOLDER   # tokenizer.json and tokenizer_config.json
  python make_golden.py model FOLDER             # smollm2.golden, smollm2.sweep
  python make_golden.py small                    # small/*.golden, from small/tokenizer.json
  python make_golden.py train                    # small/tokenizer.json itself
  python make_golden.py templates                # chat_templates.json, from templates/*.jinja

A .golden file has a line per text: three fields separated by tabs.
  1  FNV-1a (32 bits) of the ids of the text with special tokens recognised, of its ids with special
     tokens spelled out, and of its ids with what the post-processor adds, each list followed by -1
  2  FNV-1a of the UTF-8 of the first ids decoded with special tokens, a zero byte, and decoded
     without
  3  the first ids themselves, on every 16th line (small: 4th), else empty
  4  the text; backslashes and what is not printable are \\ooo, three octal digits a byte
A .sweep file has a hash of ids per 1,024 code points: of the lines "aXaX1X X XYZ\\n" of each X,
where Y and Z are U+0334 and U+0323, marks that NFC may move or compose.
"""

import json
import os
import sys
import unicodedata

from golden_lines import CODE, CONTRACTIONS, ENGLISH, lines

HERE = os.path.dirname(os.path.abspath(__file__))
SMALL = os.path.join(HERE, "small")
SWEEP_BLOCK = 1024
# The variants whose patterns ask for every kind of character.
SWEPT = ("gpt2", "llama3", "merged_previous", "o200k", "qwen2")


def fnv1a(data):
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return "%08x" % value


def id_bytes(lists):
    return b"".join(i.to_bytes(4, "little", signed=True) for ids in lists for i in ids + [-1])


def escaped(text):
    out = []
    i = 0
    while i < len(text):
        for size in (1, 2, 3, 4):
            try:
                character = text[i : i + size].decode()
                break
            except UnicodeDecodeError:
                size, character = 1, None
        if (
            character is not None
            and character != "\\"
            and (character == " " or unicodedata.category(character)[0] not in "CZM")
        ):
            out.append(character)
        else:
            out += ["\\%03o" % byte for byte in text[i : i + size]]
        i += size
    return "".join(out)


class Reference:
    def __init__(self, tokenizer_json):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_str(tokenizer_json)

    def ids(self, text, parse_special, add_special=False):
        self.tokenizer.encode_special_tokens = not parse_special
        return self.tokenizer.encode(text, add_special_tokens=add_special).ids

    def golden_line(self, data, with_ids):
        text = data.decode("utf-8", errors="replace")
        ids = self.ids(text, True)
        hashed = fnv1a(id_bytes([ids, self.ids(text, False), self.ids(text, True, True)]))
        decoded = [
            self.tokenizer.decode(ids, skip_special_tokens=skip).encode() for skip in (False, True)
        ]
        return "\t".join(
            [
                hashed,
                fnv1a(b"\0".join(decoded)),
                " ".join(map(str, ids)) if with_ids else "",
                escaped(data),
            ]
        )

    def sweep(self):
        for begin in range(0, 0x110000, SWEEP_BLOCK):
            text = "".join(
                "a{0}a{0}1{0} {0} {0}\u0334\u0323\n".format(chr(c))
                for c in range(begin, begin + SWEEP_BLOCK)
                if not 0xD800 <= c < 0xE000
            )
            yield fnv1a(id_bytes([self.ids(text, True)]))


def write_lines(path, header, rows):
    import tokenizers

    with open(path, "w", encoding="utf-8", newline="\n") as out:
        out.write("# %s; tokenizers %s; see make_golden.py\n" % (header, tokenizers.__version__))
        for row in rows:
            out.write(row + "\n")
    print(path, os.path.getsize(path))


def added_token(content, token_id, **changes):
    token = dict(
        id=token_id,
        content=content,
        single_word=False,
        lstrip=False,
        rstrip=False,
        normalized=False,
        special=True,
    )
    token.update(changes)
    return token


BYTE_LEVEL = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
DIGITS = dict(type="Digits", individual_digits=True)


def from_gguf(gguf_path, folder):
    """SmolLM2's own files, from what the GGUF says and its pre-tokenizer's name."""
    from gguf import GGUFReader

    fields = GGUFReader(gguf_path).fields
    tokens, kinds, merges = (
        fields["tokenizer.ggml." + name].contents() for name in ("tokens", "token_type", "merges")
    )
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    file = dict(
        version="1.0",
        truncation=None,
        padding=None,
        added_tokens=[added_token(tokens[i], i) for i, kind in enumerate(kinds) if kind == 3],
        normalizer=None,
        pre_tokenizer=dict(type="Sequence", pretokenizers=[DIGITS, BYTE_LEVEL]),
        post_processor=None,
        decoder=BYTE_LEVEL,
        model=dict(
            type="BPE",
            dropout=None,
            unk_token=None,
            continuing_subword_prefix=None,
            end_of_word_suffix=None,
            fuse_unk=False,
            byte_fallback=False,
            ignore_merges=False,
            vocab={token: i for i, token in enumerate(tokens)},
            merges=[m.split(" ") for m in merges],
        ),
    )
    config = dict(
        bos_token=tokens[fields["tokenizer.ggml.bos_token_id"].contents()],
        eos_token=tokens[fields["tokenizer.ggml.eos_token_id"].contents()],
        pad_token=tokens[fields["tokenizer.ggml.padding_token_id"].contents()],
        chat_template=fields["tokenizer.chat_template"].contents(),
    )
    os.makedirs(folder, exist_ok=True)
    for name, content in (("tokenizer.json", file), ("tokenizer_config.json", config)):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
            json.dump(content, out, ensure_ascii=False)


def model(folder):
    with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as file:
        reference = Reference(file.read())
    assert reference.ids("a  2", True) == [81, 256, 34], "the digit splitter is lost"
    texts = lines(2024, 10000, ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<file_sep>"])
    write_lines(
        os.path.join(HERE, "smollm2.golden"),
        "SmolLM2-135M-Instruct",
        (reference.golden_line(text, i % 16 == 0) for i, text in enumerate(texts)),
    )
    write_lines(os.path.join(HERE, "smollm2.sweep"), "SmolLM2-135M-Instruct", reference.sweep())


def merge_patch(target, patch):
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = merge_patch(target.get(key), value)
    return target


def small():
    with open(os.path.join(SMALL, "tokenizer.json"), encoding="utf-8") as file:
        base = json.load(file)
    with open(os.path.join(SMALL, "variants.json"), encoding="utf-8") as file:
        variants = json.load(file)
    for index, (name, patch) in enumerate(sorted(variants.items())):
        patched = merge_patch(base, patch)
        for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
            patched.setdefault(key, None)
        reference = Reference(json.dumps(patched))
        texts = lines(100 + index, 650, [token["content"] for token in patched["added_tokens"]])
        write_lines(
            os.path.join(SMALL, name + ".golden"),
            name,
            (reference.golden_line(text, i % 4 == 0) for i, text in enumerate(texts)),
        )
        if name in SWEPT:
            write_lines(os.path.join(SMALL, name + ".sweep"), name, reference.sweep())


STORY = """The gardener counted the seeds twice. There were forty-two of them, and she had \
promised thirty to her
neighbour, whose own garden had suffered in the storm. "You'll get yours," she'd said, "and \
it's no trouble." In the
evening they sat on the wall between the two houses and talked about the weather, the price of \
bread and what the
children were doing in the city. Der G\u00e4rtner z\u00e4hlte die Samen noch einmal: es waren \
genug f\u00fcr alle. Le jardinier,
lui, n'\u00e9tait pas s\u00fbr; il les compta encore une fois. El jardinero pregunt\u00f3: \
\u00bfcu\u00e1ntas semillas quedan?
\u0421\u0430\u0434\u043e\u0432\u043d\u0438\u043a \
\u043f\u043e\u0441\u0447\u0438\u0442\u0430\u043b \u0441\u0435\u043c\u0435\u043d\u0430. \
\u56ed\u4e01\u6570\u4e86\u4e24\u904d\u79cd\u5b50\u3002"""


def train():
    """About 900 tokens of our own text, with 21 bytes that have no token, as in SmolLM2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    dropped = [4, 6, 0x13, 0x14, 0x16, 0x1D, 0xC0, 0xC1, 0xF1, 0xF2] + list(range(0xF5, 0x100))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = [c for c in pre_tokenizers.ByteLevel.alphabet()]
    printable = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    others = [b for b in range(256) if b not in printable]
    character = {b: chr(b) if b in printable else chr(0x100 + others.index(b)) for b in range(256)}
    alphabet = [c for c in alphabet if c not in {character[b] for b in dropped}]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), byte_level]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        special_tokens=["<|end|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    text = (
        [STORY, " ".join(ENGLISH), " ".join(CONTRACTIONS)]
        + CODE
        + [STORY.upper(), " \n\n \t\t", "    " * 8]
    )
    tokenizer.train_from_iterator(text * 3, trainer)
    file = json.loads(tokenizer.to_str())
    file["model"]["merges"] = [" ".join(merge) for merge in file["model"]["merges"]]
    os.makedirs(SMALL, exist_ok=True)
    path = os.path.join(SMALL, "tokenizer.json")
    with open(path, "w", encoding="utf-8") as out:
        json.dump(file, out, ensure_ascii=False, separators=(",", ":"))
        out.write("\n")
    print(path, os.path.getsize(path), len(file["model"]["vocab"]))


if __name__ == "__main__":
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "gguf":
        from_gguf(*arguments)
    elif command == "model":
        model(*arguments)
    elif command == "small":
        small()
    elif command == "train":
        train()
    elif command == "templates":
        from template_golden import write_templates

        write_templates()
    else:
        sys.exit(__doc__)
