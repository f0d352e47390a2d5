"""Cursor, from the making of an agent to its putting away: golden cases 1 to 16 and 23 to 25 of its document.

The conversation is played by hand, so nothing here waits: pauses are steps like any other. What is sent
stands in `test_cursor.py`, all the ways in which streams may break in `test_cursor_properties.py`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest

from gateway.chat import Usage, fold
from gateway.errors import ErrorKind, UpstreamError
from gateway.providers.base import HttpRequest
from gateway.providers.cursor.conversation import MAX_BAD_POLLS, MAX_POLLS, POSTS, STREAMS

from .cases import CASES, decode, request, user
from .cursor_helpers import (
    AGENT,
    ARCHIVE,
    CANCEL,
    CREATED,
    CURSOR,
    DONE,
    END,
    FIND,
    HAPPY,
    HI,
    MADE,
    NO_USAGE,
    RUN,
    RUNNING,
    SILENCE,
    STATUS,
    STREAM,
    TURN_ENDED,
    USAGE,
    USED,
    Cut,
    Leaves,
    Said,
    api,
    events,
    finished,
    lost,
    play,
    result,
    said,
    twin,
    waits,
    wire,
    without_waits,
)
from .test_cursor import MODELS

GOLDEN = {
    1: "test_golden_01_a_stream_is_said_once",
    2: "test_golden_02_a_whole_answer_is_the_same",
    3: "test_golden_03_without_pieces_the_result_is_the_text",
    4: "test_golden_04_a_stream_that_is_not_there_yet",
    5: "test_golden_05_a_cut_is_taken_up_where_it_was",
    6: (
        "test_golden_06_an_id_that_is_refused_is_given_up_once",
        "test_golden_06_the_start_may_come_again_in_other_pieces",
    ),
    7: (
        "test_golden_07_an_expired_stream_is_made_whole_from_the_run",
        "test_golden_07_a_result_that_goes_on_from_elsewhere_is_no_answer",
    ),
    8: "test_golden_08_an_agent_that_was_made_all_the_same_is_found",
    9: "test_golden_09_an_agent_that_was_not_made_is_made_under_the_same_id",
    10: "test_golden_10_that_it_is_there_already_is_success",
    11: (
        "test_golden_11_the_client_leaves_while_an_agent_is_made",
        "test_golden_11_the_client_leaves_and_nobody_knows_whether_there_is_an_agent",
    ),
    12: "test_golden_12_the_client_leaves_in_mid_stream",
    13: "test_golden_13_a_run_that_fails",
    14: "test_golden_14_runs_that_end_otherwise",
    15: "test_golden_15_heartbeats_say_nothing",
    16: (
        "test_golden_16_after_silence_a_run_at_work_is_read_on",
        "test_golden_16_after_silence_a_run_that_is_over_is_the_end",
    ),
    23: (
        "test_golden_23_an_alias_is_looked_up_and_remembered",
        "test_golden_23_an_unknown_model_is_not_found",
    ),
    24: "test_golden_24_an_answer_without_numbers_is_an_answer",
    25: "test_golden_25_the_agents_own_tools_are_nobodys_calls",
}

FOUND = {"id": AGENT, "status": "ACTIVE", "latestRunId": "run-1"}
TOKENS = Usage(
    prompt_tokens=3107, completion_tokens=20, cached_tokens=3000, cache_write_tokens=7, reasoning_tokens=5
)
ONE_TEXT = [STATUS, *twin("assistant", 1, "Hello"), *twin("assistant", 2, " world"), TURN_ENDED, *result()]


# ── 1 to 3: the usual way ──────────────────────────────────────────────────────────────────────────────


def test_golden_01_a_stream_is_said_once():
    played = play([MADE, (STREAM, HAPPY), *END])
    assert [(c.reasoning, c.text) for c in played.chunks if not c.last or c.finish_reason] == [
        ("hm", ""),
        ("", "Hello"),
        ("", " world"),
        ("", ""),
    ]
    answer = played.answer
    assert (answer.finish_reason, answer.usage, answer.id) == ("stop", TOKENS, "chatcmpl-1")
    assert answer.created == 1795341600
    assert played.steps == ["POST", STREAM, "end", ARCHIVE]
    stream = played.calls[1]
    assert (stream.stream, stream.headers, stream.body) == (True, {}, b"")
    assert played.body["agentId"] == AGENT
    assert played.calls[0].headers == {"idempotency-key": AGENT}


def test_golden_02_a_whole_answer_is_the_same():
    whole = play([MADE, (STREAM, HAPPY), *END], request(CASES["plain"], "auto"))
    streamed = play([MADE, (STREAM, HAPPY), *END])
    assert (whole.answer, whole.calls) == (streamed.answer, streamed.calls)


def test_golden_03_without_pieces_the_result_is_the_text():
    played = play([MADE, (STREAM, [STATUS, TURN_ENDED, *result(text="All of it")]), *END])
    assert [c.text for c in played.chunks] == ["All of it", ""]
    alone = decode(CURSOR, HI, [wire([STATUS, TURN_ENDED, *result(text="All of it")])])
    assert fold(alone).text == "All of it"


def test_a_whole_answer_without_a_word_is_an_answer():
    played = play([MADE, (STREAM, [STATUS, TURN_ENDED, *result()]), *END])
    assert (played.answer.text, played.answer.finish_reason) == ("", "stop")


@pytest.mark.parametrize(
    ("cleanup", "last"), [("archive", [ARCHIVE]), ("delete", ["DELETE /A"]), ("keep", [])]
)
def test_an_agent_is_put_away_as_the_settings_say(cleanup: str, last: list[str]):
    played = play([MADE, (STREAM, HAPPY), *((step, {}) for step in last)], cleanup=cleanup)
    assert played.steps == ["POST", STREAM, "end", *last]


# ── 4 to 7, 15 and 16: streams that do not last ────────────────────────────────────────────────────────


def test_golden_04_a_stream_that_is_not_there_yet():
    early = [STATUS, said("error", code="stream_unavailable", message="not yet"), DONE]
    played = play([MADE, (STREAM, early), (RUN, RUNNING), (STREAM, HAPPY), *END])
    assert played.text == "Hello world"
    assert played.error is None
    assert played.steps == ["POST", STREAM, RUN, "wait 0.5", STREAM, "end", ARCHIVE]
    assert played.resumed_after == ["", ""]


@pytest.mark.parametrize("error", [lost(), lost(ErrorKind.UNREACHABLE), lost(ErrorKind.INTERRUPTED), None])
def test_golden_05_a_cut_is_taken_up_where_it_was(error: UpstreamError | None):
    first = Cut([STATUS, *twin("thinking", 0, "hm"), *twin("assistant", 1, "Hello")], error)
    played = play([MADE, (STREAM, first), (STREAM, [STATUS, *HAPPY[5:]]), *END])
    assert (played.reasoning, played.text) == ("hm", "Hello world")
    assert played.resumed_after == ["", "1713033006000-1"]
    assert waits(played) == [0.5]


def test_a_cut_between_an_event_and_its_mirror_loses_neither():
    """A mirror that came first has the id of the text: read on after it, and the text would be gone."""
    text, mirror = twin("assistant", 1, "Hello")
    for seen in ([STATUS, mirror], [STATUS, mirror, text], [STATUS, text]):
        rest = [said("assistant", 1, text="Hello")] if text not in seen else []
        played = play([MADE, (STREAM, Cut(seen, lost())), (STREAM, [STATUS, *rest, *HAPPY[5:]]), *END])
        assert played.text == "Hello world"
        assert played.resumed_after == ["", "1713033006000-1" if text in seen else ""]


def test_a_server_that_repeats_the_event_itself_is_understood():
    played = play([MADE, (STREAM, Cut(HAPPY[:4], lost())), (STREAM, [STATUS, *HAPPY[3:]]), *END])
    assert played.text == "Hello world"


def test_golden_06_an_id_that_is_refused_is_given_up_once():
    played = play(
        [
            MADE,
            (STREAM, Cut(HAPPY[:5], lost())),
            (STREAM, api(400, "invalid_last_event_id")),
            (STREAM, HAPPY),
            *END,
        ]
    )
    assert (played.reasoning, played.text) == ("hm", "Hello world")
    assert played.resumed_after == ["", "1713033006000-1", ""]


def test_golden_06_the_start_may_come_again_in_other_pieces():
    again = [
        STATUS,
        *twin("assistant", 11, "He"),
        *twin("thinking", 12, "hm, well"),
        *twin("assistant", 13, "llo wor"),
        *twin("assistant", 14, "ld"),
    ]
    played = play(
        [
            MADE,
            (STREAM, Cut(HAPPY[:5], lost())),
            (STREAM, api(400, "invalid_last_event_id")),
            (STREAM, Cut(again[:3], lost())),
            (STREAM, [STATUS, *again[3:], TURN_ENDED, *result()]),
            *END,
        ]
    )
    assert (played.reasoning, played.text) == ("hm, well", "Hello world")
    assert played.resumed_after == ["", "1713033006000-1", "", "1713033006000-11"]


def test_without_an_id_to_give_up_the_refusal_is_one_like_any_other():
    refused = api(400, "invalid_last_event_id")
    played = play([MADE, (STREAM, refused), (RUN, finished("Hello")), (USED, NO_USAGE), *END])
    assert played.text == "Hello"


def test_ids_that_cannot_stand_in_a_header_are_not_used():
    strange = [("assistant", "évent", {"text": "Hello"})]
    played = play([MADE, (STREAM, Cut(strange, lost())), (STREAM, ONE_TEXT), *END])
    assert played.resumed_after == ["", ""]
    assert played.text == "Hello world"


def test_golden_07_an_expired_stream_is_made_whole_from_the_run():
    played = play(
        [
            MADE,
            (STREAM, Cut(HAPPY[:5], lost())),
            (STREAM, api(410, "stream_expired")),
            (RUN, RUNNING),
            (RUN, RUNNING),
            (RUN, finished("Hello world")),
            (USED, {"runs": [{"id": "run-0"}, {"id": "run-1", "usage": USAGE}]}),
            *END,
        ]
    )
    assert [c.text for c in played.chunks if c.text] == ["Hello", " world"]
    assert played.answer.usage == msgspec.structs.replace(TOKENS, reasoning_tokens=0)
    assert waits(played) == [0.5, 2, 3]


@pytest.mark.parametrize("whole", ["Hello", "Hello\n", " Hello"])
def test_a_result_that_says_no_more_adds_nothing(whole: str):
    cut = Cut([STATUS, *twin("assistant", 1, "Hello")], api(410, "stream_expired"))
    played = play([MADE, (STREAM, cut), (RUN, finished(whole)), (USED, NO_USAGE), *END])
    assert played.text.strip() == "Hello"


def test_golden_07_a_result_that_goes_on_from_elsewhere_is_no_answer():
    """To guess would be to say something twice, or to leave a hole that nobody sees."""
    cut = Cut([STATUS, *twin("assistant", 1, "Let me see.")], api(410, "stream_expired"))
    played = play([MADE, (STREAM, cut), (RUN, finished("Paris.")), *END])
    assert played.error is not None
    assert (played.error.kind, played.text) == (ErrorKind.INTERRUPTED, "Let me see.")
    assert not any(chunk.finish_reason for chunk in played.chunks)


def test_golden_15_heartbeats_say_nothing():
    beats = [said("heartbeat")] * 4
    played = play([MADE, (STREAM, [STATUS, *beats, *HAPPY[1:5], *beats, *HAPPY[5:]]), *END])
    assert [c.text or c.reasoning for c in played.chunks if c.text or c.reasoning] == [
        "hm",
        "Hello",
        " world",
    ]


def test_golden_16_after_silence_a_run_at_work_is_read_on():
    played = play([MADE, (STREAM, Cut(HAPPY[:5], SILENCE)), (RUN, RUNNING), (STREAM, HAPPY[5:]), *END])
    assert played.text == "Hello world"
    assert played.resumed_after == ["", "1713033006000-1"]


def test_golden_16_after_silence_a_run_that_is_over_is_the_end():
    run = finished("Hello world")
    played = play([MADE, (STREAM, Cut(HAPPY[:5], SILENCE)), (RUN, run), (USED, NO_USAGE), *END])
    assert (played.text, played.answer.finish_reason) == ("Hello world", "stop")


def test_streams_are_asked_for_six_times_and_then_the_run():
    streams = [(STREAM, lost())] * len(STREAMS)
    runs = [(RUN, RUNNING)] * 8
    played = play([MADE, *streams, *runs, (RUN, finished("late")), (USED, NO_USAGE), *END])
    assert played.text == "late"
    assert waits(played) == [0.5, 2, 4, 8, 16, 2, 3, 5, 8, 12, 15, 15, 15, 15]
    assert len(STREAMS) == 6


def test_pauses_grow_and_stay_in_bounds():
    assert all(a < b for a, b in pairwise(STREAMS))
    assert max(STREAMS) <= 30


def test_a_stream_that_is_limited_waits_as_long_as_it_is_told():
    limited = CURSOR.parse_error(429, {"retry-after": "7"}, b"")
    forever = CURSOR.parse_error(429, {"retry-after": "3600"}, b"")
    played = play([MADE, (STREAM, limited), (STREAM, forever), (STREAM, ONE_TEXT), *END])
    assert waits(played) == [7, 60]


def test_an_end_that_says_nothing_is_looked_into():
    played = play([MADE, (STREAM, [STATUS, DONE]), (RUN, finished("Hi")), (USED, NO_USAGE), *END])
    assert played.text == "Hi"


def test_an_end_counts_for_its_own_stream_only():
    script = [(STREAM, [STATUS, DONE]), (RUN, RUNNING), (STREAM, [STATUS]), (STREAM, ONE_TEXT)]
    played = play([MADE, *script, *END])
    assert played.steps == ["POST", STREAM, RUN, "wait 0.5", STREAM, "wait 2", STREAM, "end", ARCHIVE]


def test_a_look_that_fails_is_no_verdict():
    played = play([MADE, (STREAM, SILENCE), (RUN, lost()), (STREAM, ONE_TEXT), *END])
    assert played.text == "Hello world"


def test_nonsense_in_a_stream_is_taken_up_before_it():
    bad: list[Said] = [*HAPPY[:5], ("assistant", "x", b'{"text":3}')]
    played = play([MADE, (STREAM, bad), (RUN, RUNNING), (STREAM, HAPPY[5:]), *END])
    assert (played.text, played.resumed_after) == ("Hello world", ["", "1713033006000-1"])


@pytest.mark.parametrize(
    "error",
    [
        said("error", code="unauthorized", message="no"),
        said("error", code="forbidden", message="no"),
        said("error", code="not_found", message="no"),
    ],
)
def test_some_errors_of_a_stream_are_the_end_of_it(error: Said):
    played = play([MADE, (STREAM, [STATUS, error]), (CANCEL, {}), *END])
    assert played.error is not None
    assert played.error.status == 502
    assert played.steps == ["POST", STREAM, "error", CANCEL, ARCHIVE]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_may_not_be_asked_is_not_asked_again(status: int):
    refused = CURSOR.parse_error(status, {}, b"")
    for script in ([(STREAM, refused)], [(STREAM, SILENCE), (RUN, refused)]):
        played = play([MADE, *script, (CANCEL, {}), *END])
        assert played.error is refused


def test_polling_gives_up_after_failures_in_a_row():
    gone = api(410, "stream_expired")
    bad = [(RUN, lost())] * (MAX_BAD_POLLS - 1)
    script = [MADE, (STREAM, gone), (RUN, RUNNING), *bad, (RUN, RUNNING), *bad, (RUN, finished("x"))]
    assert play([*script, (USED, NO_USAGE), *END]).text == "x"
    last = lost()
    played = play([MADE, (STREAM, gone), (RUN, RUNNING), *bad, (RUN, last), (CANCEL, {}), *END])
    assert played.error is last


def test_polling_gives_up_some_day():
    asked: list[str] = []

    def at_work(step: str, _http: HttpRequest) -> Any:
        asked.append(step)
        return {"POST": CREATED, STREAM: api(410, "stream_expired"), RUN: RUNNING}.get(step, {})

    played = play(at_work)
    assert played.error is not None
    assert played.error.kind is ErrorKind.TIMEOUT
    assert asked.count(RUN) == MAX_POLLS + 1
    assert asked[-2:] == [CANCEL, ARCHIVE]


# ── 8 to 10: making an agent once ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "error", [lost(), SILENCE, api(500, "internal_error"), lost(ErrorKind.BAD_RESPONSE)], ids=lambda e: e.kind
)
def test_golden_08_an_agent_that_was_made_all_the_same_is_found(error: UpstreamError):
    played = play([("POST", error), (FIND, FOUND), (STREAM, HAPPY), *END])
    assert played.text == "Hello world"
    assert played.answer.id == "chatcmpl-1"
    assert [step for step in played.steps if step == "POST"] == ["POST"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", {"agent": {}}, {"run": {"id": "../../me"}}, {"run": {"id": ""}}]
)
def test_an_agent_that_was_made_without_a_run_to_be_read_is_found(body: Any):
    played = play([("POST", body), (FIND, FOUND), (STREAM, HAPPY), *END])
    assert played.text == "Hello world"


def test_golden_09_an_agent_that_was_not_made_is_made_under_the_same_id():
    unavailable = CURSOR.parse_error(503, {}, b"")
    gone = api(404, "agent_not_found")
    played = play([("POST", unavailable), (FIND, gone), MADE, (STREAM, HAPPY), *END])
    assert played.text == "Hello world"
    first, second = (http for http in played.calls if http.path == "/v1/agents")
    assert first == second
    assert waits(played) == [1]


def test_an_agent_is_asked_for_three_times():
    gone = api(404, "agent_not_found")
    last = lost()
    script = [("POST", lost()), (FIND, gone), ("POST", SILENCE), (FIND, lost()), ("POST", last), (FIND, gone)]
    played = play([*script, (FIND, gone)])
    assert len(POSTS) == 3
    assert played.error is last
    assert played.steps[-2:] == ["error", FIND]  # it may have come into being behind our back
    assert waits(played) == [1, 2]


def test_golden_10_that_it_is_there_already_is_success():
    exists = api(409, "agent_id_conflict")
    not_yet = {"id": AGENT}
    script = [("POST", lost()), (FIND, not_yet), ("POST", exists), (FIND, not_yet), (FIND, FOUND)]
    played = play([*script, (STREAM, HAPPY), *END])
    assert (played.text, played.error) == ("Hello world", None)


def test_an_agent_that_is_there_and_has_no_run_is_a_failure():
    exists = api(409, "agent_id_conflict")
    looks = [(FIND, {"id": AGENT})] * 5
    played = play([*[("POST", exists), *looks] * 3, (FIND, {"id": AGENT})])
    assert played.error is exists


@pytest.mark.parametrize(
    "error",
    [
        api(400, "validation_error"),
        api(401, "unauthorized"),
        api(403, "usage_limit_exceeded"),
        api(400, "repository_required"),
        api(404, "not_found"),
        api(429, "rate_limit_exceeded"),
        lost(ErrorKind.UNREACHABLE),
        lost(ErrorKind.TLS),
    ],
    ids=lambda e: e.code,
)
def test_a_refusal_is_the_last_word_and_leaves_nothing_behind(error: UpstreamError):
    played = play([("POST", error)])
    assert played.error is error
    assert played.steps == ["POST"]


# ── 11 and 12: clients that leave ──────────────────────────────────────────────────────────────────────


def test_golden_11_the_client_leaves_while_an_agent_is_made():
    played = play([("POST", Leaves(CREATED)), (CANCEL, {}), *END])
    assert played.steps == ["POST", CANCEL, ARCHIVE]
    assert (played.chunks, played.error) == ([], None)


@pytest.mark.parametrize(
    ("looked", "cleared"),
    [(FOUND, [CANCEL, ARCHIVE]), (api(404, "agent_not_found"), []), (lost(), []), ({"id": AGENT}, [])],
)
def test_golden_11_the_client_leaves_and_nobody_knows_whether_there_is_an_agent(
    looked: Any, cleared: list[str]
):
    played = play([("POST", Leaves(SILENCE)), (FIND, looked), *((step, {}) for step in cleared)])
    assert played.steps == ["POST", FIND, *cleared]


def test_a_client_that_leaves_before_anything_was_made_leaves_nothing():
    chat = request({"messages": [user("Hi")], "reasoning_effort": "high"}, "gpt-5.6")
    assert play([("GET /models", Leaves(MODELS))], chat).steps == ["GET /models"]
    assert play([("POST", Leaves(api(401, "unauthorized")))]).steps == ["POST"]


@pytest.mark.parametrize("cancelled", [{}, api(409, "run_not_cancellable"), api(404, "run_not_found")])
def test_golden_12_the_client_leaves_in_mid_stream(cancelled: Any):
    played = play([MADE, (STREAM, Leaves(HAPPY[:5])), (CANCEL, cancelled), *END])
    assert played.steps == ["POST", STREAM, CANCEL, ARCHIVE]
    assert played.text == "Hello"


def test_an_agent_is_put_away_with_some_insistence():
    limited = CURSOR.parse_error(429, {"retry-after": "5"}, b"")
    script = [(CANCEL, lost()), (CANCEL, {}), (ARCHIVE, limited), (ARCHIVE, {})]
    played = play([MADE, (STREAM, Leaves(HAPPY[:5])), *script])
    assert waits(played) == [2, 5]
    given_up = play([MADE, (STREAM, Leaves(HAPPY[:5])), (CANCEL, lost()), (CANCEL, lost()), *END])
    assert without_waits(given_up)[-1] == ARCHIVE


def test_the_last_piece_may_come_too_late():
    """The client leaves when all is read and only the numbers are fetched: nothing has to be cancelled."""
    no_numbers = [STATUS, *twin("assistant", 1, "Hello"), *result()]
    played = play([MADE, (STREAM, no_numbers), (USED, Leaves(NO_USAGE)), *END])
    assert played.steps == ["POST", STREAM, USED, ARCHIVE]


# ── 13 and 14: runs without an answer ──────────────────────────────────────────────────────────────────


def failed(**error: Any) -> dict[str, Any]:
    return {"id": "run-1", "status": "ERROR", **({"error": error} if error else {})}


@pytest.mark.parametrize("told", [[], twin("assistant", 1, "Hello")])
@pytest.mark.parametrize(
    ("error", "kind", "code", "message"),
    [
        ({"code": "internal_error", "message": "VM died"}, ErrorKind.SERVER, "internal_error", "VM died"),
        ({"code": "usage_limit_exceeded"}, ErrorKind.QUOTA, "insufficient_quota", "usage_limit_exceeded"),
        ({"code": "rate_limit_exceeded"}, ErrorKind.RATE_LIMIT, "rate_limit_exceeded", "rate_limit_exceeded"),
        ({"code": "never_heard", "message": "?"}, ErrorKind.SERVER, "never_heard", "?"),
        ({"message": "?"}, ErrorKind.SERVER, "upstream_error", "?"),
        ({}, ErrorKind.SERVER, "upstream_error", "the run failed"),
    ],
)
def test_golden_13_a_run_that_fails(
    told: list[Said], error: dict[str, Any], kind: ErrorKind, code: str, message: str
):
    played = play([MADE, (STREAM, [STATUS, *told, *result("ERROR")]), (RUN, failed(**error)), *END])
    assert played.error is not None
    assert (played.error.kind, played.error.code, played.error.message) == (kind, code, message)
    assert played.text == ("Hello" if told else "")
    assert not any(chunk.finish_reason for chunk in played.chunks)
    assert played.steps == ["POST", STREAM, RUN, "error", ARCHIVE]


def test_a_failure_that_only_the_stream_tells_is_told():
    told = [STATUS, said("error", code="upstream_error", message="no machine")]
    played = play([MADE, (STREAM, told), (RUN, failed()), *END])
    assert played.error is not None
    assert (played.error.code, played.error.message) == ("upstream_error", "no machine")


@pytest.mark.parametrize("look", [lost(), RUNNING])
def test_a_run_that_failed_by_its_stream_has_failed(look: Any):
    played = play([MADE, (STREAM, [STATUS, *result("ERROR")]), (RUN, look), *END])
    assert played.error is not None
    assert played.error.message == "the run failed"


@pytest.mark.parametrize(
    ("status", "http", "code"),
    [("EXPIRED", 504, "upstream_timeout"), ("CANCELLED", 502, "upstream_cancelled")],
)
def test_golden_14_runs_that_end_otherwise(status: str, http: int, code: str):
    run = {"id": "run-1", "status": status}
    by_stream = play([MADE, (STREAM, [STATUS, *result(status)]), (RUN, run), *END])
    by_poll = play([MADE, (STREAM, SILENCE), (RUN, run), *END])
    for played in (by_stream, by_poll):
        assert played.error is not None
        assert (played.error.status, played.error.code) == (http, code)
        assert played.error.failover
        assert CANCEL not in played.steps


def test_a_stream_read_by_itself_tells_the_same_failures():
    for status, code in (("EXPIRED", "upstream_timeout"), ("CANCELLED", "upstream_cancelled")):
        with pytest.raises(UpstreamError) as caught:
            decode(CURSOR, HI, [wire(result(status))])
        assert caught.value.code == code
        with pytest.raises(UpstreamError):
            CURSOR.parse_response(msgspec.json.encode({"id": "run-1", "status": status}), HI)
    with pytest.raises(UpstreamError, match="not over"):
        CURSOR.parse_response(msgspec.json.encode(RUNNING), HI)
    assert [chunk.finish_reason for chunk in decode(CURSOR, HI, [wire([STATUS, DONE])])] == [None]


def test_a_stream_read_by_itself_ends_with_usage():
    answer = fold(decode(CURSOR, HI, [wire(HAPPY)]))
    assert (answer.text, answer.reasoning, answer.usage) == ("Hello world", "hm", TOKENS)
    assert (answer.finish_reason, answer.id, answer.last) == ("stop", "chatcmpl-1", True)


@pytest.mark.parametrize(
    ("said_at", "created"),
    [("2026-11-22T10:00:00.5+00:00", 1795341600), ("yesterday", None), ("", None), (None, None)],
)
def test_when_a_run_was_made(said_at: str | None, created: int | None):
    body = msgspec.json.encode({**finished("x"), "createdAt": said_at})
    assert CURSOR.parse_response(body, HI).created == created


# ── 23: names of models ────────────────────────────────────────────────────────────────────────────────

UNKNOWN = api(400, "invalid_model", "no such model")


def named(model: str, **fields: Any) -> Any:
    return request({"messages": [user("Hi")], **fields}, model)


def test_golden_23_an_alias_is_looked_up_and_remembered():
    learned: dict[str, Any] = {}
    script = [("POST", UNKNOWN), ("GET /models", MODELS), MADE, (STREAM, HAPPY), *END]
    played = play(script, named("composer"), learned=learned)
    assert played.text == "Hello world"
    assert played.body["model"] == {"id": "composer-2.5"}
    again = play([MADE, (STREAM, HAPPY), *END], named("composer"), learned=learned)
    assert again.body["model"] == {"id": "composer-2.5"}


@pytest.mark.parametrize("listed", [MODELS, {"items": []}, b"nonsense", lost()])
def test_golden_23_an_unknown_model_is_not_found(listed: Any):
    played = play([("POST", UNKNOWN), ("GET /models", listed)], named("gpt-99"))
    assert played.error is UNKNOWN
    assert (UNKNOWN.status, UNKNOWN.code, UNKNOWN.param) == (404, "model_not_found", "model")


def test_a_name_that_is_refused_by_its_own_id_is_not_tried_again():
    played = play([("POST", UNKNOWN), ("GET /models", MODELS)], named("grok-4.6"))
    assert played.error is UNKNOWN


def test_an_effort_needs_the_list_once():
    learned: dict[str, Any] = {}
    asked = named("gpt", reasoning_effort="high")
    model = {"id": "gpt-5.6", "params": [{"id": "effort", "value": "high"}]}
    for script in ([("GET /models", MODELS)], []):
        played = play([*script, MADE, (STREAM, HAPPY), *END], asked, learned=learned)
        assert played.body["model"] == model
        assert {http.dropped for http in played.calls if http.path.startswith("/v1/agents")} == {()}


def test_an_effort_is_no_reason_to_fail():
    asked = named("gpt-5.6", reasoning_effort="high")
    played = play([("GET /models", lost()), MADE, (STREAM, HAPPY), *END], asked)
    assert played.body["model"] == {"id": "gpt-5.6"}
    assert {http.dropped for http in played.calls[1:3]} == {("reasoning_effort",)}


def test_what_is_dropped_is_said_with_every_call_of_the_answer():
    """A strict client is refused by the first of them, and the stream is what the driver names losses by."""
    chat = named("auto", temperature=0.3)
    played = play([MADE, (STREAM, Cut(HAPPY[:5], lost())), (STREAM, HAPPY[5:]), *END], chat)
    assert {http.dropped for http in played.calls[:3]} == {("temperature",)}
    listing = play(
        [("GET /models", MODELS), ("POST", UNKNOWN), ("GET /models", MODELS)], named("x", seed=1, fast=True)
    )
    assert {"seed"} <= set(listing.calls[0].dropped)


# ── 24 and 25: numbers and tools ───────────────────────────────────────────────────────────────────────

UNCOUNTED = [STATUS, *twin("assistant", 1, "Hello"), *result()]


@pytest.mark.parametrize(
    "outcome",
    [api(403, "feature_unavailable"), lost(), NO_USAGE, {}, b"nonsense", {"runs": [{"id": "run-1"}]}],
)
def test_golden_24_an_answer_without_numbers_is_an_answer(outcome: Any):
    played = play([MADE, (STREAM, UNCOUNTED), (USED, outcome), *END])
    assert (played.answer.text, played.answer.finish_reason, played.answer.usage) == ("Hello", "stop", None)


def test_the_agents_numbers_are_its_only_runs():
    played = play([MADE, (STREAM, UNCOUNTED), (USED, {"totalUsage": USAGE}), *END])
    assert played.answer.usage == msgspec.structs.replace(TOKENS, reasoning_tokens=0)


def test_numbers_that_are_not_there_yet_are_asked_for():
    zeros = said("interaction_update", 8, type="turn-ended", usage=dict.fromkeys(USAGE, 0))
    counted = play([MADE, (STREAM, [*HAPPY[:-2], zeros, *result()]), *END])
    assert counted.answer.usage == TOKENS
    other = said("interaction_update", 8, type="summary", note="turn-ended")
    streamed = [STATUS, *twin("assistant", 1, "Hello"), zeros, other, *result()]
    played = play([MADE, (STREAM, streamed), (USED, {"totalUsage": USAGE}), *END])
    assert played.answer.usage is not None


def test_golden_25_the_agents_own_tools_are_nobodys_calls():
    calls = [
        said("tool_call", 3, callId="c", name="shell", status="running", args={"command": "ls"}),
        said("interaction_update", 3, type="tool-call-started", callId="c"),
        said("tool_call", 4, callId="c", name="shell", status="completed", result="turn-ended"),
    ]
    played = play([MADE, (STREAM, [*HAPPY[:5], *calls, *HAPPY[5:]]), *END])
    assert played.answer.tool_calls == ()
    assert played.text == "Hello world"
    cut = play([MADE, (STREAM, Cut([*HAPPY[:5], *calls], lost())), (STREAM, HAPPY[5:]), *END])
    assert cut.resumed_after == ["", "1713033006000-4"]


def test_a_strange_event_is_skipped():
    strange: list[Said] = [("", "", {"text": "no"}), ("assistant", "", {}), ("assistant", "", {"text": None})]
    read = CURSOR.event_decoder(HI)
    assert [read(event) for event in events(strange)] == [None, None, None]
