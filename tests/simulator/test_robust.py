"""No request makes a stand-in stumble: seeded mutations of every request in the tables of the other tests."""

from __future__ import annotations

import copy
import json
import random

import pytest

from gateway.simulator.brain import answer
from gateway.simulator.standins import STAND_INS
from gateway.simulator.wire import Rejected, Request

from . import test_brain, test_rejects_anthropic, test_rejects_gemini, test_rejects_openai
from .conftest import BODIES, HEADERS

JUNK = (None, 0, -1, 1.5, "", "x", [], {}, True, [None], [{}], {"a": None}, "2" * 50, 10**30)
KEYWORDS = ("type", "$ref", "enum", "items", "properties", "anyOf", "required", "minimum", "x")
PATHS = {
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/gemini-3.8-flash:generateContent",
}


def seeds(provider: str) -> list[dict]:
    if provider == "gemini":
        tables = [*test_rejects_gemini.CASES, *test_rejects_gemini.ACCEPTED]
        fields = [case[1] for case in tables]
    else:
        module = test_rejects_openai if provider == "openai" else test_rejects_anthropic
        fields = [*(case[0] for case in module.CASES), *module.ACCEPTED]
    made = [{**BODIES[provider], **each} for each in fields] + [test_brain.MEDIA[provider]]
    return [each for each in made if len(json.dumps(each)) < 20_000]


def places(value, path=()):
    """The path of everything inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield (*path, key)
        yield from places(each, (*path, key))


def mutated(value, luck: random.Random):
    value = copy.deepcopy(value)
    for _ in range(luck.randint(1, 3)):
        found = list(places(value))
        if not found:
            break
        *path, last = luck.choice(found)
        inside = value
        for key in path:
            inside = inside[key]
        how = luck.random()
        if how < 0.6:
            inside[last] = copy.deepcopy(luck.choice(JUNK))
        elif how < 0.8:
            del inside[last]
        elif isinstance(inside, dict):
            inside[luck.choice(KEYWORDS)] = copy.deepcopy(luck.choice(JUNK))
    return value


@pytest.mark.parametrize("provider", PATHS)
def test_mutations_are_answered_or_refused(provider):
    luck, stand_in, known = random.Random(provider), STAND_INS[provider], seeds(provider)
    headers = {"content-type": "application/json", **HEADERS[provider]}
    answered = 0
    for _ in range(1500):
        body = json.dumps(mutated(luck.choice(known), luck)).encode()
        try:
            made = stand_in.handle(Request("POST", PATHS[provider], {}, headers, body))
            for stream in (False, True):
                made.render(answer(made.ask), stream)
            answered += 1
        except Rejected as problem:
            assert json.loads(stand_in.error(problem).body)["error"]["message"]
    assert answered > 10
