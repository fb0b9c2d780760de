"""The action `alertmanager.silence`: a short silence of ours, exact, that can be found again and taken back.

While it holds, Alertmanager tells nothing about these alerts, their end neither (contracts.md A5): reconciliation asks
for both, so the same Alertmanager must stand below `alertmanagers:` in responder.yaml.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import quote

from pydantic import ConfigDict, Field, JsonValue, field_validator

from responder.contracts import Action, Context, Output, Probe
from responder.errors import BadSyntax, Permanent
from responder.http_calls import HttpAnswer, HttpCall
from responder.recorded import Effect, Plan, ProbeAnswer
from responder.timing import HOUR, MINUTE, format_duration, format_time, parse_time
from responder.written import Duration

LONGEST: Final = 4 * HOUR
AUTHOR: Final = "responder"
"""Who all our silences are created by."""

LabelName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
LabelValue = Annotated[str, Field(min_length=1, max_length=512)]
Silence = Mapping[str, Any]


class AlertmanagerSilence(Action):
    """Silence alerts in Alertmanager for a short time.

    - `service`: a service of kind `alertmanager`, whose url must stand below `alertmanagers:` as well: Alertmanager
      does not tell the end of what is silenced, so only who asks it hears of that. `lint` warns (`unheard-silence`).
    - `matchers`: label → value, each exactly; `alertname` must be among them. Placeholders may stand in values.
    - `for`: how long, at least 1m and at most 4h.
    - `comment`: why, for whoever finds it.

    Effect class `probed`. Its end is fixed when the step is prepared, with an approval right before it is made. A
    silence of ours with the same matchers is extended and no second one made; one that holds longer already is left as
    it is. It is created by `responder`, and its comment ends with a mark by which the probe finds it. Undoing it
    expires it, or puts the former end of one that was extended back; a silence of a person is never touched.

    Needs of its user: `GET` and `POST` on `/api/v2/silences`, `DELETE` on `/api/v2/silence`.

    What is silenced is watched all the same: reconciliation asks Alertmanager every minute whether it still fires.

    ```yaml
    - id: silence_lag
      action: alertmanager.silence
      with:
        service: alertmanager
        matchers: {alertname: PostgresReplicationLag, env: prod}
        for: 15m
        comment: the replica is being rebuilt
      timeout: 10s
      undo: {approval: operator}
    ```
    """

    model_config = ConfigDict(populate_by_name=True)
    kinds: ClassVar[tuple[str, ...]] = ("alertmanager",)
    positions: ClassVar[Mapping[str, str]] = {"service": "literal", "for": "literal", "comment": "text"}

    service: str
    matchers: Annotated[dict[LabelName, LabelValue], Field(min_length=1, max_length=20)]
    for_: Annotated[Duration, Field(alias="for", ge=MINUTE, le=LONGEST)]
    comment: Annotated[str, Field(min_length=1, max_length=500)]

    @field_validator("matchers")
    @classmethod
    def _named(cls, value: dict[str, str]) -> dict[str, str]:
        if "alertname" not in value:
            raise ValueError("a silence names its alert: add `alertname`, or it would hide others as well")
        return value

    def effect(self, keyed: bool) -> Effect:
        """See Action.effect."""
        return Effect.PROBED

    def preview(self) -> str:
        """See Action.preview."""
        told = ", ".join(f"{name}={value}" for name, value in self.matchers.items())
        return f"silence {{{told}}} for {format_duration(self.for_)}"

    async def prepare(self, context: Context) -> Plan:
        """Fix its end; find one of ours to extend."""
        now = context.now()
        end = now + self.for_
        params: dict[str, JsonValue] = self.model_dump(mode="json", by_alias=True)
        plan = Plan(params=params, preview=self.preview(), effect=Effect.PROBED, prepared_at=now)
        ours = next((s for s in await self._listed(context) if _ours(s) and _exact(s) == self.matchers), None)
        if ours is not None and _end(ours) >= end:
            said = f"silence {ours['id']} of ours holds until {ours['endsAt']} already"
            return plan.model_copy(update={"nothing_to_do": said})
        target = {"mark": _mark(self.matchers, now), "ends_at": end}
        before: JsonValue = None
        if ours is not None:
            before = {"id": str(ours["id"]), "starts_at": str(ours["startsAt"]), "ends_at": _end(ours)}
        extends = "" if ours is None else f" (extends {ours['id']})"
        preview = f"{self.preview()}, until {format_time(end)}{extends}"
        # Its end and its mark come from the time of the plan; a yes is for the matchers, and for what is extended.
        parts = ("a new silence" if ours is None else f"extends {ours['id']}",)
        made = {"target": target, "before": before, "preview": preview, "undoable": True, "parts": parts}
        return plan.model_copy(update=made)

    async def act(self, plan: Plan, context: Context) -> Output:
        """Make, extend or, as an undo, expire it. Raises Temporary, Permanent, Unknown."""
        target = _target(plan)
        if "expire" in target:
            return await self._expire(str(target["expire"]), context)
        found = await self._marked(target, context)
        if found is None:
            before: dict[str, Any] = dict(plan.before) if isinstance(plan.before, dict) else {}
            end = target["ends_at"]
            if context.now() >= end:
                raise Permanent(f"{self.service}: the silence would be over by now; nothing was silenced")
            wanted: dict[str, JsonValue] = {
                "matchers": [
                    {"name": n, "value": v, "isRegex": False, "isEqual": True} for n, v in self.matchers.items()
                ],
                "startsAt": before.get("starts_at") or format_time(context.now()),
                "endsAt": format_time(end),
                "createdBy": AUTHOR,
                "comment": f"{self.comment} {target['mark']}",
                **({"id": before["id"]} if before else {}),
            }
            call = HttpCall("POST", "/api/v2/silences", json=wanted, key=context.key)
            answer = await self._send(call, context)
            found = {"id": answer.body.get("silenceID") if isinstance(answer.body, dict) else None}
        end_told = format_time(target["ends_at"])
        value: JsonValue = {"id": found["id"], "ends_at": end_told}
        return Output(value, f"{self.preview()}: silence {found['id']} until {end_told}", context.now())

    async def probe(self, plan: Plan, context: Context) -> Probe:
        """Is it listed, by its mark? For an undo: is it listed no more?"""
        target = _target(plan)
        if "expire" in target:
            there = any(s.get("id") == target["expire"] for s in await self._listed(context))
            answer = ProbeAnswer.NOT_APPLIED if there else ProbeAnswer.APPLIED
            return Probe(answer, f"silence {target['expire']} {'still holds' if there else 'is over'}")
        found = await self._marked(target, context)
        if found is None:
            return Probe(ProbeAnswer.NOT_APPLIED, "no silence with its mark is listed")
        return Probe(ProbeAnswer.APPLIED, f"silence {found['id']} holds")

    async def undo(self, plan: Plan, context: Context) -> Plan:
        """The plan that expires it, or gives one that was extended its former end. What has expired by itself, or was
        replaced, leaves nothing to do."""
        found = await self._marked(_target(plan), context)
        back = Plan(
            params=plan.params,
            preview="expire the silence",
            effect=Effect.PROBED,
            prepared_at=context.now(),
            target={"expire": None if found is None else str(found["id"])},
        )
        if found is None:
            return back.model_copy(update={"nothing_to_do": "the silence is over already"})
        before: dict[str, Any] = dict(plan.before) if isinstance(plan.before, dict) else {}
        former = before.get("ends_at")
        if isinstance(former, int) and former > context.now():
            # One that was extended: it held before, and holds until its former end.
            return back.model_copy(update={
                "preview": f"let silence {found['id']} end at {format_time(former)} again",
                "before": {"id": str(found["id"]), "starts_at": str(found["startsAt"])},
                "target": {"mark": _mark(self.matchers, context.now()), "ends_at": former},
                "parts": (f"{found['id']} until {format_time(former)}",),
            })  # fmt: skip
        return back.model_copy(update={"preview": f"expire silence {found['id']}"})

    async def _expire(self, mark: str, context: Context) -> Output:
        await self._send(HttpCall("DELETE", f"/api/v2/silence/{quote(mark, safe='')}", key=context.key), context)
        return Output({"id": mark}, f"silence {mark} is over", context.now())

    async def _marked(self, target: Mapping[str, Any], context: Context) -> Silence | None:
        listed = await self._listed(context)
        return next((s for s in listed if _ours(s) and str(s.get("comment")).endswith(target["mark"])), None)

    async def _listed(self, context: Context) -> list[Silence]:
        """What is not over. Raises Temporary; Permanent when it is no list of silences."""
        body = (await self._send(HttpCall("GET", "/api/v2/silences"), context)).body
        if not isinstance(body, list) or not all(isinstance(s, dict) and "id" in s for s in body):
            raise Permanent(f"{self.service}: its list of silences is none; check that the service is an Alertmanager")
        silences: list[Silence] = [s for s in body if isinstance(s, dict)]
        return [s for s in silences if (s.get("status") or {}).get("state") in {"active", "pending"}]

    async def _send(self, call: HttpCall, context: Context) -> HttpAnswer:
        answer: HttpAnswer = await context.service(self.service).send(call, context.timeout, context.clear)
        return answer.checked(context.now())


def _target(plan: Plan) -> dict[str, Any]:
    """Raises Permanent for a plan that this action cannot have made."""
    if not isinstance(plan.target, dict):
        raise Permanent("the plan names no silence; nothing was changed: start the run again")
    return dict(plan.target)


def _mark(matchers: Mapping[str, str], now: int) -> str:
    """The same in every try of one plan, and of no other."""
    digest = hashlib.sha256(json.dumps([sorted(matchers.items()), now]).encode()).hexdigest()
    return f"[responder {digest[:16]}]"


def _ours(silence: Silence) -> bool:
    return silence.get("createdBy") == AUTHOR and "[responder " in str(silence.get("comment"))


def _exact(silence: Silence) -> dict[str, str] | None:
    """Its matchers when all are exact ones; None when one is not."""
    given = silence.get("matchers")
    listed = [m for m in given if isinstance(m, dict)] if isinstance(given, list) else []
    if any(m.get("isRegex") or m.get("isEqual") is False for m in listed):
        return None
    return {str(m.get("name")): str(m.get("value")) for m in listed}


def _end(silence: Silence) -> int:
    try:
        return parse_time(str(silence.get("endsAt")))
    except BadSyntax:
        return 0
