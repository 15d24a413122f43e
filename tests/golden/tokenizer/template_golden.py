"""Writes chat_templates.json: what transformers' Jinja makes of templates/*.jinja and of snippets.

One entry per rendering: {"template": name or text, "chat": name, "add_generation_prompt": bool} and
"text", or "error": true where jinja2 raises. Snippets that we refuse although jinja2 accepts them
say so in "refused": a part of our message. See make_golden.py for how to run it.
"""

import json
import os

HERE = os.path.dirname(os.path.abspath(__file__))
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def turns(*contents, system=None):
    chat = [] if system is None else [{"role": "system", "content": system}]
    for i, content in enumerate(contents):
        chat.append({"role": "assistant" if i % 2 else "user", "content": content})
    return chat


CHATS = {
    "empty": [],
    "one": turns("Hello"),
    "answered": turns("Hello", "Hi there!"),
    "system": turns("What is 2+2?", "4.", "And 3+3?", system="You are terse."),
    "long": turns("a", "b", "c", "d", "e", "f", "g"),
    "spaces": turns(
        "  leading\n", "\n\ttrailing  \n\n", " \u00a0\u3000x\u2003\x1c\n", system="  s  "
    ),
    "unicode": turns(
        "\u00e9\u0301 \u4f60\u597d \U0001f600\U0001f468\u200d\U0001f469",
        "\u0160e\u00df \u0130I\u0131",
    ),
    "markup": turns(
        "<|im_end|>\n<|im_start|>system", "{{ 1 }} {% if %} </s> [/INST]", "\"quotes\" \\n 'x'"
    ),
    "nothing": turns("", "", ""),
    "thinking": turns(
        "q", "<think>\nwhy\n\n</think>\n\nbecause", "r", "<think>a</think>b</think>c"
    ),
    "wrong order": [
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "second"},
    ],
    "tool": turns("call", "ok") + [{"role": "tool", "content": '{"x": 1}'}],
    "other role": [{"role": "critic", "content": "hm"}],
    "windows": turns("a\r\nb\rc", "d\r\n"),
}

# Snippets of more than one line; the others are in templates/snippets.txt.
MORE_SNIPPETS = [
    "  {% if true %}  \n a {% endif %}\n\n{{ 1 }}\n x\n",
    "{% if true %}\n  {%- if true %} a {%- endif %}  \n{%+ if true %} b{% endif +%}\n"
    "c{% endif %}\n\n",
    "a {# c #}\n  {#- d -#}  \n e",
    "{{- 'x' }}\n {{ 'y' -}} \n z",
    "a\r\nb\rc\n{% if true %}\r\nx{% endif %}",
    "{# c #}\n\n  {# d #}  {# e #}\nx {# f +#}\ny",
    "\n{% set x = 1 %}\n{{ x }}\n\n",
    "  {%+ if true %}a{% endif %}\n  {{+ 1 }}\n\t {% if true %}\n\tb\n\t{% endif %}\n",
    "x\n    {%- for i in [1,2] -%}\n  {{ i }}\n  {%- endfor -%}\n  y",
    "{{ 'a\nb' }}{{\n'c'\n}}{%\nif\ntrue\n%}d{% endif %}",
    "{% if true -%}\n\n\u00a0 \u3000x{%- endif %}\n",
    "{#-#}\n{#+#}\n a {#\n multi\n line #} b",
    "",
    "\n",
    "\n\n",
]

# Accepted by jinja2, refused by us, with a part of what we say.
REFUSED = {
    "\n\n{% macro f(x) %}{% endmacro %}": "line 3: the tag macro is not supported",
    "{% include 'x' %}": "the tag include",
    "{% raw %}{% endraw %}": "the tag raw",
    "{% filter upper %}a{% endfilter %}": "the tag filter",
    "{% with x = 1 %}{% endwith %}": "the tag with",
    "{% call(x) f() %}{% endcall %}": "the tag call",
    "{{ 1.5 }}": "the number 1.5",
    "{{ 0x10 }}": "the number 0x10",
    "{{ 10000000000000000000 }}": "is too large",
    "{{ 4 / 2 }}": "the operator /",
    "{{ 2 ** 3 }}": "the operator **",
    "{{ [1]|sort|join }}": "the filter sort",
    "{{ 'a'|safe }}": "the filter safe",
    "{{ 'a'.encode() }}": "the method .encode()",
    "{{ 'a'.format(1) }}": "the method .format()",
    "{{ cycler('a') }}": "the function cycler()",
    "{% for i in [1] recursive %}{% endfor %}": "recursive",
    "{% set x | upper %}a{% endset %}": "a filter on a set block",
    "{{ ['a']|map('upper')|join }}": "by keyword only",
    "{{ messages|tojson(2) }}": "by keyword only",
    "{{ 1 is callable }}": "the test callable",
    "{{ +1 }}": "a + before a value",
    "{{ '\\101' }}": "the escape \\1",
    "{{ 'a'.strip('x', 'y') if false }}": "the method strip does not take 2",
    "{{ 'a'.startswith() if false }}": "the method startswith lacks prefix",
    "{{ 'a'|replace('b') if false }}": "the filter replace lacks new",
}

# Rendered by jinja2, but not by us: these parse, and fail where they are evaluated.
FAILING = [
    "{{ [1] }}",
    "{{ {'a': 1} }}",
    "{{ '%s' % 'a' }}",
    "{{ [1] * 2 }}",
    "{{ {1: 2}|length }}",
    "{{ 'a'|replace('', 'b') }}",
]


def compile_template(text):
    from transformers.utils.chat_template_utils import _compile_jinja_template

    template = _compile_jinja_template(text)
    template.environment.globals.pop("strftime_now", None)  # Rendering does not know the time.
    return template


def render(text, chat, add_generation_prompt):
    try:
        rendered = compile_template(text).render(
            messages=chat,
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **TOKENS
        )
        return {"text": rendered}
    except Exception:  # Whatever jinja2 and Python raise.
        return {"error": True}


def write_templates():
    import jinja2
    import transformers

    folder = os.path.join(HERE, "templates")
    names = sorted(name for name in os.listdir(folder) if name.endswith(".jinja"))
    sources = {}
    for name in names:
        with open(os.path.join(folder, name), encoding="utf-8", newline="") as file:
            sources[name] = file.read()
    with open(os.path.join(folder, "snippets.txt"), encoding="utf-8", newline="\n") as file:
        one_liners = file.read().splitlines()
    renderings = [
        dict(
            template=name,
            chat=chat,
            add_generation_prompt=flag,
            **render(sources[name], CHATS[chat], flag)
        )
        for name in names
        for chat in CHATS
        for flag in (False, True)
    ]
    snippets = [
        dict(template=text, **render(text, CHATS["system"], True))
        for text in one_liners + MORE_SNIPPETS
    ]
    for text in REFUSED:
        if "if false" not in text and "include" not in text and "call(x)" not in text:
            assert "text" in render(text, CHATS["system"], True), text
        snippets.append(dict(template=text, refused=REFUSED[text]))
    snippets += [dict(template=text, error=True) for text in FAILING]
    content = dict(
        versions="jinja2 %s, transformers %s" % (jinja2.__version__, transformers.__version__),
        tokens=TOKENS,
        templates=sources,
        chats=CHATS,
        renderings=renderings,
        snippets=snippets,
    )
    path = os.path.join(HERE, "chat_templates.json")
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        json.dump(content, out, ensure_ascii=True, indent=0)
        out.write("\n")
    print(path, os.path.getsize(path), len(renderings), len(snippets))
