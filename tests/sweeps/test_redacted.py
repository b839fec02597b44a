"""Secrets are masked by kind; ordinary text stays as it is."""

from __future__ import annotations

import string
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import redacted

PASSWORDS = st.text(string.ascii_letters + string.digits + "@:%#?!$*+-._~^", max_size=12).map(
    lambda text: f"s3cr{text}et"
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ghp_TOKEN@github.com/x", "https://***@github.com/x"),
        ("(https://ghp_TOKEN@github.com)", "(https://***@github.com)"),
        ("postgresql://me:se/cr/et@host/db", "postgresql://***@host/db"),
        ("postgresql://me:my pass word@host/db", "postgresql://***@host/db"),
        ("postgresql://me:a@b/c@host/db", "postgresql://***@host/db"),
        ("postgresql://me:what?#now@host/db", "postgresql://***@host/db"),
        ("http://me:1234@host/x", "http://***@host/x"),
        ("x://h/y?access_token=abc&z=1", "x://h/y?access_token=***&z=1"),
        ("x://h/y?X-Amz-Signature=abc", "x://h/y?X-Amz-Signature=***"),
        ("x://h/y?a=1&AccountKey=abc#f", "x://h/y?a=1&AccountKey=***#f"),
        ("x://h/y?sv=2&sig=abc%3D", "x://h/y?sv=2&sig=***"),
        ("x://h?user=me&sslpassword=abc", "x://h?user=me&sslpassword=***"),
        ("host=db password=abc user=me", "host=db password=*** user=me"),
        ("host=db sslpassword = 'a b\\' c' user=me", "host=db sslpassword = *** user=me"),
        ('passwd="a b" x', "passwd=*** x"),
        ("api_key=abc, access_token=def", "api_key=***, access_token=***"),
        ("MLFLOW_TRACKING_PASSWORD=abc", "MLFLOW_TRACKING_PASSWORD=***"),
        ("AWS_SECRET_ACCESS_KEY=abc", "AWS_SECRET_ACCESS_KEY=***"),
        ("{'user': 'me', 'password': 'a b'}", "{'user': 'me', 'password': ***}"),
        ('{"token": "abc", "x": 1}', '{"token": ***, "x": 1}'),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("{'Authorization': 'Basic bWU6eA=='}", "{'Authorization': '***'}"),
        ("sent Bearer abc.def-1 twice", "sent Bearer *** twice"),
        ("sent Basic bWU6c2VjcmV0 twice", "sent Basic *** twice"),
        ("X-Api-Key: abc", "X-Api-Key: ***"),
    ],
)
def test_a_secret_of_every_kind_is_masked(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "see http://host:5000/a@b and me@host",
        "no answer from http://mlflow:5000, write to me@host",
        "http://host/path?x=a@b",
        "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning",
        "sqlite:////tmp/optuna.db",
        "env.kwargs.gravity = -5.0, policy.head=auto; key=3, tokens=5, sort(key=len)",
        "KeyError: 'password'",
        "password authentication failed for user me",
        "a bearer token is missing, Basic authentication is not offered",
        "unexpected token: x, the key: is, secret: no",
        "trial 3: final/return_mean 214.5 over 20 episodes (seeds 1000..1019)",
        "Traceback: File x.py:12, in y: z@w",
        "models:/lander@best is trial 12",
        "git@github.com:me/x.git",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redacted(text) == text


@settings(max_examples=100, deadline=None)
@given(
    password=PASSWORDS, user=st.sampled_from(["", "me", "a.b"]), tail=st.sampled_from(["", "/db"])
)
def test_no_password_survives_in_an_address(password: str, user: str, tail: str) -> None:
    for written in (password, quote(password, safe="")):
        shown = redacted(f"cannot reach postgresql://{user}:{written}@host{tail}: refused")
        assert shown == f"cannot reach postgresql://***@host{tail}: refused"


@settings(max_examples=100, deadline=None)
@given(
    secret=st.text(string.ascii_letters + string.digits + "%._~+-", min_size=1, max_size=12),
    name=st.sampled_from(
        ["token", "access_token", "api_key", "password", "x-amz-signature", "sig"]
    ),
    case=st.sampled_from([str.lower, str.upper, str.title]),
)
def test_no_secret_survives_in_a_query(secret: str, name: str, case: object) -> None:
    assert callable(case)
    shown = redacted(f"GET https://h/p?a=1&{case(name)}={secret}&b=2 failed")
    assert shown == f"GET https://h/p?a=1&{case(name)}=***&b=2 failed"
