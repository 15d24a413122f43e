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
    "spaces": turns("  leading\n", "\n\ttrailing  \n\n", " \u00a0\u3000x\u2003\x1c\n", system="  s  "),
    "unicode": turns("\u00e9\u0301 \u4f60\u597d \U0001F600\U0001F468\u200d\U0001F469", "\u0160e\u00df \u0130I\u0131"),
    "markup": turns("<|im_end|>\n<|im_start|>system", "{{ 1 }} {% if %} </s> [/INST]", "\"quotes\" \\n 'x'"),
    "nothing": turns("", "", ""),
    "thinking": turns("q", "<think>\nwhy\n\n</think>\n\nbecause", "r", "<think>a</think>b</think>c"),
    "wrong order": [{"role": "assistant", "content": "first"}, {"role": "user", "content": "second"}],
    "tool": turns("call", "ok") + [{"role": "tool", "content": "{\"x\": 1}"}],
    "other role": [{"role": "critic", "content": "hm"}],
    "windows": turns("a\r\nb\rc", "d\r\n"),
}

SNIPPETS = r"""
{% set x=1 %}{% for i in [1,2] %}{{x}}{% set x=x+1 %}{{x}}{% endfor %}{{x}}
{% for i in [1,2] %}{% if i==1 %}{% set y=5 %}{% endif %}[{{y}}]{% endfor %}[{{y}}]
{{ true }}|{{ none }}|{{ 12 }}|{{ undefined_name }}|
{{ 'a' 'b' }}|{{ 'a\n\x41\u00e9\q\\\'' }}|{{ "a'b" }}|{{ '\t|\U0001F600' }}
{{ x.y }}
{{ x['y'].z }}
{{ x }}|{{ x|length }}|{{ 'a' in x }}|{{ x == y }}|{{x is defined}}|{{ x|trim }}|{{ x|list|length }}
{{ 1 if false }}|{{ not x is defined }}|{{ 1 < 2 < 3 }}|{{ 3 > 2 > 2 }}|{{ -1 | string }}|{{ 'a' ~ 1 ~ none ~ x }}
{{ 7 // 2 }}|{{ -7 // 2 }}|{{ 7 // -2 }}|{{ -7 % 3 }}|{{ 7 % -3 }}|{{ 2 * 'ab' }}|{{ 'ab' * -1 }}|{{ 2 + 3 * 4 - 1 }}
{{ 1 // 0 }}
{{ 'abc'[1:] }}{{ 'abc'[-1] }}{{ 'abc'[::-1] }}{{ [1,2,3][5:]|length }}{{ 'abc'[7] }}|{{ [1][9] is defined }}
{{ 'abcdef'[1:5:2] }}|{{ 'abcdef'[4:1:-1] }}|{{ 'abcdef'[:-2] }}|{{ 'abcdef'[-3:] }}|{{ 'abcdef'[-100:100] }}|{{ 'abc'[none:2] }}
{{ [1,2,3][::-1]|join }}|{{ [1,2,3][:2]|join }}|{{ messages[1:]|length }}|{{ messages[-1].role }}|{{ messages.0.role }}
{{ 'abc'[::0] }}
{% for i in [1,2,3] if i!=2 %}{{loop.index}}/{{loop.length}}{{i}}{% else %}none{% endfor %}{% for i in [] %}{% else %}none{% endfor %}
{% for k,v in {'a':1,'b':2}.items() %}{{k}}{{v}}{{ loop.first }}{{ loop.last }}{% endfor %}{{ {'a':1}.keys()|list|join }}
{% for k,v in {'a':1,'b':2}|items %}{{k}}{{v}}{% endfor %}{% for k in {'x':1} %}{{ k }}{% endfor %}
{% for a, b in [[1,2,3]] %}{{ a }}{% endfor %}
{% set ns = namespace(a=1,b='x') %}{% for i in [1,2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ns.a}}{{ns.c}}|{{ ns.b }}|{{ ns['a'] }}
{% set ns = namespace() %}{% set ns.x %}
{% set y.a = 1 %}
{{ 'a,b,,c'.split(',')|join('-') }}|{{ ' a  b '.split()|join('-') }}|{{'a,b,c'.split(',',1)|join('-')}}|{{ ' a b  c '.split(none,1)|join('-') }}
{{ 'abc'.strip('ac') }}|{{ 'xx'.strip('x') }}|{{ ' x '.lstrip() }}|{{ ' x '.rstrip() }}|{{ 'éaé'.strip('é') }}|{{ '\u3000x\x1f'.strip() }}|
{{ 'x'.startswith('x') }}{{ 'xy'.endswith('y') }}{{ 'x'.startswith(('a','x')) }}{{ 'aXbX'.replace('X','') }}{{ 'aaa'.replace('aa','b') }}
{{ ''.split(',')|length }}|{{ ''.split()|length }}
{{ 'a'.split('') }}
{{ 1 + 2 ~ 3 }}
{{ 'ab' is string }}{{ 1 is number }}{{ [] is iterable }}{{ 'a' is iterable }}{{ {} is mapping }}{{ [] is sequence }}{{'a' is sequence}}{{ none is none }}{{ 2 is even }}{{ x is undefined }}
{{ none is iterable }}{{ 1 is iterable }}{{ x is iterable }}{{ {} is sequence }}{{ true is number }}{{ true is integer }}{{ 1 is integer }}{{ 1 is boolean }}{{ x is none }}{{ none is undefined }}
{{ 3 is odd }}{{ 4 is divisibleby 2 }}{{ 4 is divisibleby(3) }}{{ 1 is eq 1 }}{{ 1 is equalto 2 }}{{ 'a' is in ['a'] }}{{ 'a' is not in 'b' }}{{ 1 is not none }}{{ true is true }}{{ 1 is true }}{{ false is false }}
{{ none|length }}
{{ 5|length }}
{{ none + 'a' }}
{{ 'a' + 1 }}
{{ 'a' < 1 }}
{{ none.x }}|{{ 'a'.foo }}|{{ [].foo }}|{{ none['x'] }}|{{ 5['x'] }}|
{{ 1 in 'a' }}
{{ 1 in 5 }}
{{ 'b' in 'abc' }}{{ 'b' in ['a','b'] }}{{ 'b' not in ['a','b'] }}{{ 'a' in {'a':1} }}{{ 1 in {'a':1} }}{{ 'x' in messages[0] }}{{ 'role' in messages[0] }}
{{ none|trim }}|{{ 5|trim }}|{{ ' x '|trim }}|{{ 'xax'|trim('x') }}|{{ true|upper }}
{{ x|default('d') }}|{{ ''|default('d',true) }}|{{ none|default('d') }}|{{ x|d }}|{{ ''|d('e', boolean=true) }}|{{ x.y|default('z') if x is defined else 'u' }}
{% for i in none %}{% endfor %}
{% for c in 'héy' %}{{c}}.{% endfor %}{% for i in undefined_name %}x{% else %}empty{% endfor %}
{{ [3,1]|first }}{{ []|first }}{{ 'abc'|last }}{{ 'abc'|first }}{{ [1,2]|last }}{{ ''|last }}
{% set x %}a{{ 1 }}{% endset %}[{{x}}]
{% set x %}{% set y = 2 %}{{ y }}{% endset %}{{ x }}[{{ y }}]
{{ 'x'|upper }}{{ 'ß'|upper }}|{{'aB cD'|capitalize}}|{{ 'éA'|capitalize }}|{{ 'ßa'|capitalize }}|{{ 'ǆab'|capitalize }}|{{ 'ΑΣ'|lower }}|{{ 'İ'|lower|length }}
{% set x, y = 1, 2 %}{{x}}{{y}}{% set z = 3, %}{{ z|length }}
{{ loop }}|{% for i in [1,2] %}{{loop.previtem is defined}}{{loop.nextitem}}{{loop.revindex}}{{ loop.revindex0 }}{{ loop.index0 }};{% endfor %}{{ loop is defined }}
{% for i in [1,2] %}{% for j in [1,2,3] %}{{ loop.index }}{{ loop.last }}{% endfor %}{{ loop.index }}|{% endfor %}
{{ true + 1 }}{{ true == 1 }}{{ 1 and 'a' }}{{ '' or 'b' }}{{ not '' }}{{ 0 or none }}{{ [] and 1 or 2 }}
{{ [1,2]|join }}|{{ [1,'a',none,true]|join(', ') }}|{{ [{'a':1},{'a':2}]|join('-', attribute='a') }}|{{ 'abc'|join('.') }}
{{ [{'a':1}]|map(attribute='a')|join(',') }}|{{ [{'a':{'b':5}}]|map(attribute='a.b')|join }}|{{ messages|map(attribute='role')|join(' ') }}
{{ [{'a':1},{'a':2}]|selectattr('a','equalto',2)|list|length }}|{{ [{'a':1},{}]|rejectattr('a')|list|length }}|{{ [{'a':1},{}]|selectattr('a','defined')|list|length }}|{{ messages|selectattr('role','in',['user'])|list|length }}
{{ 'a' if x else 'b' if true else 'c' }}|{{ x is defined and x is not none }}|{{ (1 is defined) }}|{{ ('a' if false) is defined }}
{{ messages[0]['role'] }}|{{ messages[5] is defined }}
{{ messages[5]['role'] }}
{{ 'abc'|replace('b','x') }}|{{ '12'|int + 1 }}|{{ 'z'|int }}|{{ 'z'|int(7) }}|{{ ' 3 '|int }}|{{ '3.9'|int }}|{{ none|int }}|{{ true|int }}
{{ [1,2]|reverse|list|join }}|{{ 'abc'|reverse }}|{{ 'abc'|list|join('.') }}|{{ 'abc'|string }}|{{ 5|string|length }}
{{ {'a':1}.get('b') }}|{{ {'a':1}.get('b','c') }}|{{ {'a':1}.a }}|{{ {'a':1}['b'] is defined }}|{{ {'a':1}|length }}|{{ {'a': {'b': 1}}.a.b }}
{{ ['a', 1, true, none, {'k': 'é<"\n\\'}]|tojson }}|{{ 'a'|tojson }}|{{ {}|tojson }}{{ []|tojson }}|{{ '\x01\x7f/'|tojson }}
{{ {'a': [1, {'b': []}], 'c': {}}|tojson(indent=2) }}|{{ [1]|tojson(indent=none) }}|{{ [[]]|tojson(indent=0) }}
{{ x|tojson }}
{% for i in range(3) %}{{i}}{% if i==1 %}{% break %}{% endif %}{% endfor %}{% for i in range(2,5) %}{% if i==3 %}{% continue %}{% endif %}{{ i }}{% endfor %}{{ range(0)|length }}
{% break %}
{{ raise_exception('x') }}
{{ 'a' %}
{% if x %}
{% foo %}
{% endif %}
{% for x in %}{% endfor %}
{{ 'unfinished }}
{# unfinished
{{ [1, 2 }}
{{ (1, 2] }}
{{ }}
{{ 1 2 }}
{% set = 1 %}
{% set true = 1 %}
{% if 1 %}a{% else %}b{% else %}c{% endif %}
a }} b %} c #}
{{ '{{' }}{{ '%}' }}{{ {'a': {'b': {}}}|tojson }}
{{ ['a','b'] == ['a','b'] }}{{ ['a'] != ['b'] }}{{ {'a':1} == {'a':1} }}{{ 'a' == 1 }}{{ none == none }}{{ 'a' < 'b' }}{{ 'é' > 'z' }}{{ 1 <= true }}
{{ ([1]+[2])|join }}|{{ [1,2,]|length }}{{ {'a':1,}|length }}{{ ()|length }}{{ (1,)|length }}{{ (1)|string }}
{%if true%}x{%endif%}{{'a'}}{%- if true -%}  y  {%- endif -%}  z
{{ 'abc'.foo() }}
{{ x() }}
{{ x|foo }}
{{ x is foo }}
{{ 'a'.join(['1','2']) }}|{{ 'aab'.find('b') }}|{{ 'éb'.find('b') }}|{{ 'aab'.find('z') }}|{{ 'A'.lower() }}{{ 'a'.upper() }}{{ 'aB'.capitalize() }}
{{ 'a'.join([1]) }}
{% if messages %}yes{% elif 1 %}no{% endif %}{% if [] %}yes{% elif 0 %}no{% else %}else{% endif %}{% if not messages %}x{% endif %}
{% if messages[0].role == 'user' and messages|length > 1 or false %}ok{% endif %}{% if not (1 == 2) %}ok{% endif %}{% if not 1 == 2 %}ok{% endif %}
{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}{{ unk_token }}{{ add_generation_prompt }}{{ tools is none }}{{ documents is none }}{{ strftime_now is defined }}
{{ namespace is defined }}{{ dict(a=1, b='x').b }}{{ dict()|length }}
{% generation %}{% set q = 1 %}{{ q }}{% endgeneration %}[{{ q }}]
{{ -'a' }}
{{ - -1 }}|{{ 1 - -1 }}|{{ not not 1 }}|{{ not 1 in [2] }}|{{ 2 - 1 - 1 }}|{{ 'a' ~ 'b' + 'c' }}|{{ 1 ~ 2 ~ 3 }}|{{ -3 | string ~ 'x' }}
{{ ' x'|trim ~ '|' }}{{ ('a' + ' ')|trim }}{{ 'a' + ' b '|trim }}{{ 1 + 2|string|length }}
{{ "{% if %}" }}{{ '#}' }}{#- {{ x }} -#} end
{{- 'a' -}} {{- 'b' }} {{ 'c' -}}
""".strip("\n").split("\n")

MORE_SNIPPETS = [
    "  {% if true %}  \n a {% endif %}\n\n{{ 1 }}\n x\n",
    "{% if true %}\n  {%- if true %} a {%- endif %}  \n{%+ if true %} b{% endif +%}\nc{% endif %}\n\n",
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
FAILING = ["{{ [1] }}", "{{ {'a': 1} }}", "{{ '%s' % 'a' }}", "{{ [1] * 2 }}", "{{ {1: 2}|length }}",
           "{{ 'a'|replace('', 'b') }}"]


def compile_template(text):
    from transformers.utils.chat_template_utils import _compile_jinja_template
    template = _compile_jinja_template(text)
    template.environment.globals.pop("strftime_now", None)  # Rendering does not know the time.
    return template


def render(text, chat, add_generation_prompt):
    try:
        rendered = compile_template(text).render(messages=chat, tools=None, documents=None,
                                                 add_generation_prompt=add_generation_prompt, **TOKENS)
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
    renderings = [dict(template=name, chat=chat, add_generation_prompt=flag, **render(sources[name], CHATS[chat], flag))
                  for name in names for chat in CHATS for flag in (False, True)]
    snippets = [dict(template=text, **render(text, CHATS["system"], True)) for text in SNIPPETS + MORE_SNIPPETS]
    for text in REFUSED:
        if "if false" not in text and "include" not in text and "call(x)" not in text:
            assert "text" in render(text, CHATS["system"], True), text
        snippets.append(dict(template=text, refused=REFUSED[text]))
    snippets += [dict(template=text, error=True) for text in FAILING]
    content = dict(versions="jinja2 %s, transformers %s" % (jinja2.__version__, transformers.__version__), tokens=TOKENS,
                   templates=sources, chats=CHATS, renderings=renderings, snippets=snippets)
    path = os.path.join(HERE, "chat_templates.json")
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        json.dump(content, out, ensure_ascii=True, indent=0)
        out.write("\n")
    print(path, os.path.getsize(path), len(renderings), len(snippets))
