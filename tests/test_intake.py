"""The way in that HTTP, command line and library share: what is wrong with a body, and with which field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.errors import RequestError
from gateway.intake import read_request, with_model

HI: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
CALL = {"functions": [{"name": "f"}]}
DEEP = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"prediction":' + b'{"a":' * 50_000 + b"1"

BAD: dict[str, tuple[bytes, str | None, str | None]] = {  # body → param, code
    "no JSON": (b"{", None, None),
    "no object": (b"[]", None, None),
    "no UTF-8": (b"\xff", None, None),
    "too deep": (DEEP, None, None),
    "a field of another type": (msgspec.json.encode({**HI, "n": "x"}), "n", "invalid_type"),
    "a field that is missing": (b'{"model":"m"}', "messages", "missing_required_parameter"),
    "functions and tools": (msgspec.json.encode({**HI, **CALL, "tools": []}), "functions", "invalid_value"),
    "functions and several choices": (
        msgspec.json.encode({**HI, **CALL, "n": 2}),
        "n",
        "unsupported_parameter",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_body_is_refused_with_its_field(name: str):
    body, param, code = BAD[name]
    with pytest.raises(RequestError) as caught:
        read_request(body)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)


def test_a_good_body_is_read_and_legacy_functions_become_tools():
    request = read_request(msgspec.json.encode({**HI, **CALL}), strict=True)
    assert (request.model, request.strict, request.legacy) == ("m", True, True)
    assert request.tools is not None
    assert not read_request(msgspec.json.encode(HI)).strict


def test_another_model_takes_the_place_of_the_one_that_was_sent():
    sent = b'{"model":"a","seed":1.0,"x":{"b":[1e3]}}'
    assert with_model(sent, "c") == b'{"model":"c","seed":1.0,"x":{"b":[1e3]}}'
    assert with_model(b'{"n":1}', "c") == b'{"n":1,"model":"c"}'
    for other in (b"[]", b"{", b"\xff"):
        assert with_model(other, "c") == other
