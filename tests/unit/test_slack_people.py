"""Who a Slack user is: `slack:` below a name in responder.yaml."""

import hashlib
import hmac

import pytest

from responder.contracts import Secret
from responder.errors import BadConfig
from responder.security import Person, SlackSignatures
from responder.timing import SECOND
from responder.web import slack_people
from tests.unit.stand_ins import configured

ENVIRON = {"HOME": "/var/ops", "A": "a"}
PEOPLE = """
auth:
  people:
    alice: {token: {env: A}, roles: [operator], slack: %s}
    bob: {token: {env: A}, slack: %s}
"""


def test_a_slack_user_is_the_person_below_whose_name_it_stands() -> None:
    auth = configured(PEOPLE % ("U024BE7LH", "W0BOB"), ENVIRON).auth
    assert slack_people(auth) == {
        "U024BE7LH": Person("alice", frozenset({"operator"})),
        "W0BOB": Person("bob", frozenset()),
    }
    nobody = configured(PEOPLE.replace(", slack: %s", ""), ENVIRON).auth
    assert slack_people(nobody) == {}


def test_two_people_may_not_share_a_slack_user() -> None:
    with pytest.raises(BadConfig) as raised:
        configured(PEOPLE % ("U024BE7LH", "U024BE7LH"), ENVIRON)
    assert "responder.yaml:5" in str(raised.value)
    assert "auth.people.bob.slack: alice has this Slack user already" in str(raised.value)


@pytest.mark.parametrize("user", ["alice", "u024be7lh", "C024BE91L", "U", "'@alice'", "'U024BE7LH '", "7"])
def test_a_name_is_no_slack_user(user: str) -> None:
    with pytest.raises(BadConfig, match=r"auth\.people\.alice\.slack"):
        configured(PEOPLE % (user, "W0BOB"), ENVIRON)


# --- signatures -------------------------------------------------------------------------------------------------------

NOW = 1_531_420_618 * SECOND
BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
    b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)


def test_the_example_of_slacks_documentation_is_signed() -> None:
    own, other = Secret("env S", lambda: "8f742231b10e8888abcd99yyyzzz85a5"), Secret("env O", lambda: "another app's")
    known = SlackSignatures([other, own])
    right = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    assert known.signer("1531420618", right, BODY, NOW) is own
    assert "not of this body" in str(known.signer("1531420618", right, BODY + b"&", NOW))
    assert "not of this body" in str(known.signer("1531420619", right, BODY, NOW))


def test_a_secret_that_cannot_be_read_or_is_empty_opens_nothing() -> None:
    def unreadable() -> str:
        raise BadConfig("S is not set")

    empty = f"v0={hmac.new(b'', b'v0:1531420618:' + BODY, hashlib.sha256).hexdigest()}"
    for secrets in ([], [Secret("env S", unreadable)], [Secret("env S", lambda: " ")]):
        assert isinstance(SlackSignatures(secrets).signer("1531420618", empty, BODY, NOW), str)
