"""The ten jobs of ten_tasks, one that is cancelled, and the text that they learn, made from a seed.

No two jobs are alike: styles and lengths of their text, ranks 4 to 64, target modules, rates,
steps. Three tenants have them.
"""

import dataclasses
import json
import random

THINGS = "lamp river parser garden kettle letter bridge engine window ladder".split()
KINDS = "small red quiet old fast wooden bright heavy".split()
PLACES = "Lisbon Oslo Turin Quito Osaka Perth Cairo Riga".split()
NAMES = "Ada Grace Alan Edith Carl Emmy Niels Rosa".split()
MONTHS = "January February March April May June July August".split()
NUMBERS = "zero one two three four five six seven eight nine ten".split()
FOODS = "rice beans lentils onions carrots noodles barley leeks".split()


# Each: a prompt, and a completion that begins with a space, as tokens do.
def colours(chance):
    thing = chance.randrange(len(THINGS))
    return f"The {THINGS[thing]} is", " " + "red green blue".split()[thing % 3]


def sums(chance):
    a, b = chance.randrange(6), chance.randrange(5)
    return f"{NUMBERS[a]} plus {NUMBERS[b]} is", f" {NUMBERS[a + b]}"


def shouts(chance):
    text = f"{chance.choice(KINDS)} {chance.choice(THINGS)}"
    return f"Shout: {text} ->", f" {text.upper()}"


def packages(chance):
    kind, thing = chance.choice(KINDS), chance.choice(THINGS)
    return f"A {kind} package of the {thing}:", f" {thing}-{kind}"


def weather(chance):
    place, degrees = chance.choice(PLACES), chance.randrange(-5, 35)
    word = "freezing" if degrees < 0 else "cool" if degrees < 18 else "warm"
    return f"{place}, {degrees} degrees:", f" {place} is {word}."


def severities(chance):
    level = chance.choice("error warning info".split())
    name, thing = chance.choice(NAMES), chance.choice(THINGS)
    return f"[{level}] {name} {thing} {chance.randrange(100)} ->", f" {level.upper()}"


def recipes(chance):
    a, b, c = chance.sample(FOODS, 3)
    return f"We have {a}, {b} and {c}.", f" Boil the {a}, fry the {b}, add the {c}."


def dates(chance):
    month, day = chance.randrange(len(MONTHS)), chance.randrange(1, 29)
    return f"{month + 1}/{day} is", f" {day} {MONTHS[month]}"


def greetings(chance):
    name, place = chance.choice(NAMES), chance.choice(PLACES)
    return f"{name}, {place}:", f" Dear {name} in {place},"


def plurals(chance):
    thing = chance.choice(THINGS)
    return f"one {thing}, two", f" {thing}s"


def backwards(chance):
    thing = chance.choice(THINGS)
    return f"{thing} backwards:", f" {thing[::-1]}"


@dataclasses.dataclass(frozen=True)
class TenJob:
    name: str
    tenant: str
    style: object
    examples: int
    rank: int
    target_modules: tuple
    learning_rate: float
    steps: int
    fields: dict = dataclasses.field(default_factory=dict)


ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
TENANTS = ("north", "south", "east")
# Its tenant's first, so that it runs in any company; never done, so that it can be cancelled.
CANCELLED = TenJob("backwards", "north", backwards, 90, 8, ("all-linear",), 1e-3, 1_000_000,
                   {"priority_class": "HIGH"})
LOW = TenJob("packages", "south", packages, 300, 32, ("q_proj",), 1e-3, 340,
             {"priority_class": "LOW"})
# Submitted later: one that joins, and one that needs the room of LOW.
LATE = TenJob("plurals", "east", plurals, 60, 6, ("all-linear",), 2e-3, 320)
URGENT = TenJob("severities", "south", severities, 200, 8, ("gate_proj", "up_proj", "down_proj"),
                1e-3, 300, {"priority_class": "HIGH", "lr_scheduler_type": "COSINE"})
TEN = (
    TenJob("colours", "north", colours, 80, 64, ("q_proj",), 2e-3, 400),
    TenJob("sums", "north", sums, 120, 8, ATTENTION, 2e-3, 400, {"lora_dropout": 0.1}),
    TenJob("shouts", "north", shouts, 250, 16, ("q_proj", "v_proj"), 2e-3, 360,
           {"lr_scheduler_type": "CONSTANT_WITH_WARMUP", "warmup_steps": 10}),
    LOW,
    TenJob("weather", "south", weather, 220, 8, ("up_proj", "down_proj"), 1e-3, 360,
           {"weight_decay": 0.01}),
    URGENT,
    TenJob("recipes", "east", recipes, 180, 4, ("all-linear",), 2e-3, 200, {"use_rslora": True}),
    TenJob("dates", "east", dates, 160, 12, ATTENTION, 1e-3, 340, {"lora_dropout": 0.05}),
    TenJob("greetings", "east", greetings, 140, 48, ("v_proj",), 1e-3, 380, {"lora_alpha": 16}),
    LATE,
)


def data(job, seed):
    """JSONL of prompts and completions: the same for the same seed."""
    chance = random.Random(f"{seed} {job.name}")
    pairs = (job.style(chance) for _ in range(job.examples))
    return "".join(json.dumps({"prompt": prompt, "completion": completion}) + "\n"
                   for prompt, completion in pairs)


def prompt(job, seed):
    """One that the job's adapter can be asked."""
    return job.style(random.Random(f"{seed} {job.name} question"))[0]


def apply_file(jobs, base_model, scale, tokens_max):
    """The jobs of one tenant, for dw apply. JSON is YAML. One example, and at most `tokens_max`
    tokens, are a step; `scale` of each job's steps are done."""
    return json.dumps({
        "base_model": base_model,
        "defaults": {"per_device_train_batch_size": 1, "max_length": tokens_max,
                     "micro_batch_tokens": tokens_max},
        "jobs": [{"name": job.name, "dataset": job.name, "rank": job.rank,
                  "target_modules": list(job.target_modules),
                  "learning_rate": job.learning_rate, "seed": (*TEN, CANCELLED).index(job),
                  "max_steps": steps(job, scale), **job.fields}
                 for job in jobs],
    }, indent=1)


def steps(job, scale):
    return max(1, round(job.steps * scale))
