"""Every golden case of the notes on the providers' APIs, and the tests that hold it.

The notes number what has to hold of an API. What each case is about stands here; which tests hold it stands
with the tests: a module `test_NAME*.py` beside this one has a dict `GOLDEN`, from the number of a case of
document NAME to a test of that module, to `path::test` of another one, or to several of these. What the
gateway has no code for yet stands in `OPEN`.

`python -m tests.providers.test_golden [NAME]` prints all of it: document, case, tests.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TypeAlias

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

Number: TypeAlias = int | str

DOCUMENTS: dict[str, dict[Number, str]] = {
    "openai": {
        1: "a stream through the Python SDK's helper",
        2: "a stream through the Node SDK's helper",
        3: "usage: one last chunk without choices when asked for, else none",
        4: "a tool call in fragments, put together by both SDKs",
        5: "two parallel calls with interleaved fragments",
        6: "a call without arguments has the arguments {}",
        7: "two choices, interleaved: 0 begins, each has its end",
        8: "the upstream dies in mid-stream: an error in the stream",
        9: "a clean end without finish reason: the same",
        10: "429 with a long wait: told, and the client does not repeat",
        11: "429 for billing: never repeated, failover, told as insufficient_quota",
        12: "401 of the upstream: neither its key nor its status for the client",
        13: "a model's id with an encoded slash",
        14: "embeddings in base64",
        15: "detail original and cache breakpoints: taken, and taken out for others",
        16: "function tools on a model that reasons go to the Responses API",
        17: "with effort none they stay on Chat Completions",
        18: "temperature on a model that reasons: dropped and named, or refused",
        19: "max_tokens goes out as max_completion_tokens",
        20: "calls in a Responses stream are counted by themselves",
        21: "an incomplete response is a length, a failed one an error",
        22: "x-ratelimit-reset durations",
        23: "a client that leaves closes the call, and nobody is blamed",
        24: "keep-alive comments that the SDK does not see",
        25: "bad bodies are refused with the path of the field",
        26: "an error before the first byte of a stream has its own status",
        27: "legacy functions are tools upstream and functions again for the client",
    },
    "anthropic": {
        1: "the least request: a limit of the model's own",
        2: "system and developer: system blocks in order",
        3: "system in the middle of a conversation",
        4: "sampling by model",
        5: "a limit over the model's is the model's",
        6: "stop sequences: list, and none of white space",
        7: "parallel calls, their results and the user's words in one turn",
        8: "ids of calls are cleaned the same way on both sides",
        9: "arguments that are no object",
        10: "a missing result is filled in",
        11: "forced calls and parallel_tool_calls by model",
        12: "tool_choice none keeps the tools; their schemas",
        13: "images by data and by address; no audio",
        14: "PDF and text documents",
        15: "response_format json_schema in the API's subset",
        16: "reasoning_effort by model",
        17: "thinking blocks come back, signed ones only",
        18: "an assistant message at the end",
        "18b": "blank texts; no empty beta header",
        19: "n, seed, logit_bias, user, unknown fields",
        20: "a whole answer with thoughts, text, calls and usage",
        21: "no content, and a refusal",
        22: "stop reasons",
        23: "a stream with thoughts, text and two calls, as the client reads it",
        24: "server tools are no tool calls",
        25: "a stream cut anywhere",
        26: "errors and ends inside a stream; usage that adds up",
        27: "errors of the API by status and words",
        28: "a stale thinking block: one more call without thoughts",
        29: "rate limit headers delay the next call",
        30: "models over two pages",
    },
    "gemini": {
        1: "the least request: path, key, body",
        2: "system and developer from anywhere",
        3: "only a system message",
        4: "the assistant first",
        5: "two turns of the user",
        6: "results in the order of the calls",
        7: "forms of tool results",
        8: "a missing result is filled in",
        9: "thought signatures by each convention, and the sentinel",
        10: "tool_choice",
        11: "response_format json_schema, with and without tools",
        12: "reasoning_effort by model",
        13: "limits, stops, n, penalties, seed",
        14: "images, audio, documents",
        15: "names of models in the path",
        16: "private fields stay here",
        17: "text, thoughts and usage",
        18: "ids of calls",
        19: "finish reasons and blocked prompts",
        20: "a malformed call without output is a failure",
        21: "no candidates at all is a failure",
        22: "a recorded stream, as the client reads it",
        23: "indexes of calls go on across chunks",
        24: "usage keeps its last values",
        25: "a stream cut anywhere, in every framing",
        26: "errors inside a stream",
        27: "an end without finish reason",
        28: "errors of the API by status and details",
        29: "citations in characters",
        30: "embeddings in batches",
        31: "CONTINUATION",
    },
    "deepseek": {
        1: "blank lines before an answer",
        2: "comments, then thoughts, then text",
        3: "usage on the finish chunk",
        4: "usage in a chunk of its own",
        5: "given up before any content",
        6: "given up after content",
        7: "a thought for every assistant turn, with tools",
        8: "without tools history stays",
        9: "reasoning_effort none",
        10: "reasoning_effort xhigh and max",
        11: "a forced call ends thinking",
        12: "strict tools go to beta",
        13: "json_schema is refused, or said in words",
        14: "n",
        15: "developer is system",
        16: "402: an empty account",
        17: "429 without headers",
        18: "an image in a system message",
        19: "further pieces of a call have neither id nor name",
        20: "a close after keep-alives only",
        21: "retired names of models",
        22: "seventeen stop sequences",
        23: "max_completion_tokens wins",
        24: "an end without its mark",
    },
    "qwen": {
        1: "text chat on path B: content in lists",
        2: "path A, refused for its address, then B from then on",
        3: "the reverse",
        4: "refused on both paths: one 400, nobody is blamed",
        5: "a stream without a space after the colon, with finish null as text",
        6: "content in lists inside a stream",
        7: "a stream that repeats what it said",
        8: "thoughts, then text; empty thoughts are skipped",
        9: "fragments of calls with index",
        10: "fragments of calls without index, repeated",
        11: "a call without arguments, out and back in",
        12: "throttled in mid-stream: before content, and after",
        13: "an error in a 200",
        14: "which 400s and 429s are for billing",
        15: "inspection fails in mid-stream",
        16: "reasoning_effort by model",
        17: "a model that only streams, for a client that does not",
        18: "n with tools, and n in a stream",
        19: "tool_choice required and named",
        20: "temperature and penalties",
        21: "addresses of regions; the key is redacted",
        22: "images and audio; no files",
        23: "usage with image and cached tokens",
        24: "an end after nothing but null",
        25: "the list of models as health check",
    },
    "cursor": {
        1: "a stream, said once although every event comes twice",
        2: "the same as a whole answer",
        3: "only the result has text",
        4: "stream_unavailable right after the start",
        5: "a cut in mid-stream is taken up where it was",
        6: "an event id that is refused: once without it",
        7: "a stream that has expired: the rest from the run",
        8: "a reset while an agent is made: one agent",
        9: "503 while an agent is made: again, same id",
        10: "a conflict on the second try is success",
        11: "the client leaves while an agent is made",
        12: "the client leaves in mid-stream",
        13: "a run that fails, before text and after",
        14: "runs that expire or are cancelled",
        15: "heartbeats are no silence",
        16: "silence: the run is asked",
        17: "429 with a plain text",
        18: "tools are refused; tool_choice none is taken",
        19: "n, logprobs, json_schema are refused",
        20: "what is dropped is named, or refused when strict",
        21: "a history as one text",
        22: "images",
        23: "names of models",
        24: "no usage to be had",
        25: "tools of the agent are nobody's tool calls",
        26: "the key in no log",
        27: "never a failover target unless told so",
    },
}

OPEN: dict[str, dict[Number, str]] = {
    "openai": {23: "the metric"},
    "deepseek": {16: "asking for the balance"},
}
"""Cases, or parts of them, that the gateway has no code for yet: a case without any test has to be here."""

NAMED = re.compile(r"test_golden_0*(\d+b?)_")
"""Tests that have a case's number in their names: they have to be in the table under it."""

checked = pytest.mark.parametrize("document", sorted(DOCUMENTS))


def modules(document: str) -> list[Path]:
    return sorted(HERE.glob(f"test_{document}*.py"))


def golden_of(path: Path) -> dict[Number, str | tuple[str, ...]]:
    """The `GOLDEN` of a module, read and not run: it has to stand there in plain words."""
    for item in ast.parse(path.read_text()).body:
        targets = item.targets if isinstance(item, ast.Assign) else [getattr(item, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "GOLDEN" for target in targets):
            found: dict[Number, str | tuple[str, ...]] = ast.literal_eval(item.value)
            return found
    return {}


def table(document: str) -> dict[Number, list[str]]:
    """For each case of a document its tests, as paths from the root and names."""
    found: dict[Number, list[str]] = {}
    for path in modules(document):
        for case, tests in golden_of(path).items():
            names = (tests,) if isinstance(tests, str) else tests
            found.setdefault(case, []).extend(node(path, name) for name in names)
    return found


def node(module: Path, test: str) -> str:
    """`test` of a `GOLDEN` in `module`, as pytest names it: a path is from the root, or from the module."""
    path, _, name = test.rpartition("::")
    beside = module.parent / path if path else module
    return f"{beside.relative_to(ROOT) if beside.is_file() else path}::{name}"


@cache
def names_in(path: Path) -> frozenset[str]:
    """The names of the tests in a file."""
    if not path.is_file():
        return frozenset()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = (item.name for item in ast.parse(path.read_text()).body if isinstance(item, kinds))
    return frozenset(name for name in names if name.startswith("test_"))


def problems(
    cases: Mapping[Number, str], found: Mapping[Number, list[str]], gaps: Mapping[Number, str]
) -> Iterator[str]:
    """What is wrong with the table of a document."""
    for case in cases:
        if not found.get(case) and case not in gaps:
            yield f"case {case} ({cases[case]}) has no test"
    for case in (*found, *gaps):
        if case not in cases:
            yield f"there is no case {case}"
    for case, nodes in found.items():
        for test in nodes:
            path, _, name = test.partition("::")
            if name not in names_in(ROOT / path):
                yield f"case {case}: there is no test {test}"


@checked
def test_every_case_is_a_test(document: str):
    assert list(problems(DOCUMENTS[document], table(document), OPEN.get(document, {}))) == []


@checked
def test_a_number_in_a_name_is_the_number_in_the_table(document: str):
    found = table(document)
    for path in modules(document):
        for name in names_in(path):
            if number := NAMED.match(name):
                case = int(number[1]) if number[1].isdigit() else number[1]
                assert f"{path.relative_to(ROOT)}::{name}" in found.get(case, []), f"case {case}: {name}"


def test_what_is_missing_or_made_up_is_found():
    """The check itself: it has to be able to fail."""
    assert OPEN.keys() <= DOCUMENTS.keys()
    me = node(Path(__file__), "test_every_case_is_a_test")
    assert me == "tests/providers/test_golden.py::test_every_case_is_a_test"
    assert golden_of(Path(__file__)) == {}
    other = node(Path(__file__), "tests/test_sse.py::test_comments_cannot_break_out")
    cases: dict[Number, str] = {1: "one", 2: "two", "2b": "more"}
    assert list(problems(cases, {1: [me], 2: [other]}, {"2b": "later"})) == []
    assert list(problems(cases, {1: [me], 2: []}, {})) == [
        "case 2 (two) has no test",
        "case 2b (more) has no test",
    ]
    wrong = {1: ["tests/providers/test_golden.py::test_gone"], 2: ["tests/gone.py::test_x"], 3: [me]}
    assert list(problems(cases, wrong, {"2b": "", 4: ""})) == [
        "there is no case 3",
        "there is no case 4",
        "case 1: there is no test tests/providers/test_golden.py::test_gone",
        "case 2: there is no test tests/gone.py::test_x",
    ]


def lines(document: str) -> Iterator[str]:
    """The table of a document for people."""
    found, gaps = table(document), OPEN.get(document, {})
    for case, words in DOCUMENTS[document].items():
        yield f"{document} {case}: {words}"
        yield from (f"    {test}" for test in found.get(case, []))
        if case in gaps:
            yield f"    open: {gaps[case]}"


if __name__ == "__main__":
    for chosen in sys.argv[1:] or DOCUMENTS:
        print("\n".join(lines(chosen)), end="\n\n")
