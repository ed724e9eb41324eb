"""Logging in with a browser on any device: the device authorization grant of OAuth 2 (RFC 8628).

Where that is done stands in the issuer's discovery document. What comes out is an ID token, a JWT of OpenID Connect, which the
nodes check themselves. Nothing of the issuer is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from horologe.client.errors import InvalidArgument, Unauthenticated, Unavailable

__all__ = ["Invitation", "obtain"]

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
ANSWER_SECONDS = 10.0
INTERVAL_SECONDS_DEFAULT = 5.0
"""What RFC 8628 says where the issuer says nothing; and so much more after each `slow_down`."""
LIFE_SECONDS_MAX = 1800.0
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Invitation:
    """What the person has to do."""

    url: str
    code: str
    url_with_code: str
    """Empty if the issuer has none."""


def obtain(
    issuer: str,
    client_id: str,
    scopes: str,
    invite: Callable[[Invitation], None],
    pause: Callable[[float], None],
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """An ID token, once the person has agreed in a browser.

    Unauthenticated if they do not, or not in time; Unavailable if the issuer does not answer as it should.
    """
    with httpx.Client(timeout=ANSWER_SECONDS, follow_redirects=False) as http:
        found = _discover(http, issuer)
        # The two ends of a login are of the issuer, or none: nobody else gets the device code.
        device, token = (_endpoint(found, f"{kind}_endpoint", issuer) for kind in ("device_authorization", "token"))
        begun = _answer(http, device, {"client_id": client_id, "scope": scopes})
        code = _text(begun, "device_code", device)
        invite(
            Invitation(
                _text(begun, "verification_uri", device),
                _text(begun, "user_code", device),
                str(begun.get("verification_uri_complete", "")),
            )
        )
        interval = _seconds(begun, "interval", INTERVAL_SECONDS_DEFAULT)
        ends_at = clock() + min(_seconds(begun, "expires_in", LIFE_SECONDS_MAX), LIFE_SECONDS_MAX)
        while clock() < ends_at:
            pause(interval)
            answer = _answer(http, token, {"client_id": client_id, "device_code": code, "grant_type": GRANT_TYPE})
            match answer.get("error"):
                case None:
                    return _text(answer, "id_token", token)
                case "authorization_pending":
                    continue
                case "slow_down":
                    interval += INTERVAL_SECONDS_DEFAULT
                case "access_denied":
                    raise Unauthenticated(f"{issuer} says that the login was refused")
                case "expired_token":
                    break
                case other:
                    raise Unauthenticated(f"{issuer} refuses the login: {other}: {answer.get('error_description', '')}")
    raise Unauthenticated("nobody agreed to the login in time; begin again")


def _discover(http: httpx.Client, issuer: str) -> dict[str, Any]:
    _check_url(issuer, "the issuer")
    url = issuer.rstrip("/") + "/.well-known/openid-configuration"
    found = _json(_send(http, "GET", url), url)
    if found.get("issuer") != issuer:
        # What is checked by the nodes is this name, letter by letter.
        raise Unavailable(f"{url} is of the issuer {found.get('issuer')!r}, not of {issuer!r}; give exactly that name")
    return found


def _endpoint(found: dict[str, Any], key: str, issuer: str) -> str:
    if key not in found:
        raise Unavailable(
            f"{issuer} has no {key}: it does not offer logins for devices; give a token instead (--token -)"
        )
    url = _text(found, key, issuer)
    _check_url(url, f"the {key} of {issuer}")
    return url


def _check_url(url: str, what: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise InvalidArgument(f"{what} is {url!r}; an https:// address is expected")


def _answer(http: httpx.Client, url: str, form: dict[str, str]) -> dict[str, Any]:
    response = _send(http, "POST", url, form)
    # Errors of OAuth come with 400, and say what they are in JSON.
    if response.status_code not in (200, 400, 401):
        raise Unavailable(f"{url} answers with {response.status_code}")
    answer = _json(response, url)
    if response.status_code != 200 and "error" not in answer:
        raise Unavailable(f"{url} answers with {response.status_code}")
    return answer


def _send(http: httpx.Client, method: str, url: str, form: dict[str, str] | None = None) -> httpx.Response:
    try:
        return http.request(method, url, data=form)
    except httpx.HTTPError as error:
        raise Unavailable(f"{url} cannot be reached: {error}") from error


def _json(response: httpx.Response, url: str) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Unavailable(f"{url} answers with {response.status_code} and no JSON object")
    return answer


def _text(answer: dict[str, Any], key: str, url: str) -> str:
    if not isinstance(answer.get(key), str) or not answer[key]:
        raise Unavailable(f"the answer of {url} has no {key}{': ' + str(answer['error']) if 'error' in answer else ''}")
    return str(answer[key])


def _seconds(answer: dict[str, Any], key: str, default: float) -> float:
    value = answer.get(key, default)
    return max(float(value), 0.0) if isinstance(value, int | float) else default
