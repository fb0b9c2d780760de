"""One suite on both: the API server of tests/fakes, and the cluster that RESPONDER_TEST_KUBECONFIG names.

On the real one (`make test-kubernetes`) everything that a test makes is called `responder-test`, in the namespace
RESPONDER_TEST_NAMESPACE (`responder-test`), which must exist, and is deleted at its end.
"""

from __future__ import annotations

from typing import Any

import pytest

from responder.errors import Permanent
from responder.kubernetes_calls import (
    AUTOSCALERS,
    BUDGETS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    PODS,
    KubernetesCall,
)
from responder.kubernetes_connections import LibraryWire, Reply
from responder.last_look import Clear
from responder.recorded import Outcome
from responder.workloads import items, part, text, whole, workload_of
from tests.fakes.kubernetes_objects import autoscaler, budget, event
from tests.system.kubernetes_place import APP, BROKEN, IMAGES, NAME, SECOND, Place, both, each_workload, placed

RESTART, UNDO, SCALE = "kubernetes.rollout_restart", "kubernetes.rollout_undo", "kubernetes.scale"
DELETE, EVICT = "kubernetes.delete_pod", "kubernetes.evict"
SET_ENV, SET_KEY = "kubernetes.set_env", "kubernetes.configmap_patch"


# --- restarts and releases --------------------------------------------------------------------------------------------


@both
@each_workload
async def test_a_restart_is_done_once_and_its_rollout_ends(kind: str, app: str) -> None:
    async with placed(kind, app) as place:
        resource = workload_of(app).resource
        plan = await place.desk.prepare(RESTART, workload=app)
        generation, before = part(await place.object(resource), "metadata", "generation"), await _uids(place)
        first = await place.desk.act(RESTART, plan)
        second = await place.desk.act(RESTART, plan)
        assert (first.outcome, second.outcome) == (Outcome.OK, Outcome.OK)
        assert part(await place.object(resource), "metadata", "generation") == generation + 1
        await place.rolled_out(app)
        assert not await _uids(place) & before
        assert (await place.desk.probe(RESTART, plan)).answer.value == "applied"


async def _uids(place: Place) -> set[str]:
    """Of the pods that are there and not ending."""
    call = KubernetesCall("list", PODS, place.namespace, params={"labelSelector": f"app={NAME}", "limit": "500"})
    found = items(await place.asked(call), "items")
    return {text(one, "metadata", "uid") for one in found if not part(one, "metadata", "deletionTimestamp")}


@both
@each_workload
async def test_a_release_is_undone_once_and_the_undo_is_undone(kind: str, app: str) -> None:
    async with placed(kind, app) as place:
        await _released(place, IMAGES[1], app)
        await place.desk.done(RESTART, workload=app)
        await place.rolled_out(app)
        plan = await place.desk.prepare(UNDO, workload=app)
        assert (await place.desk.act(UNDO, plan)).outcome is Outcome.OK
        assert await place.image(app) == IMAGES[0]
        await place.rolled_out(app)
        with pytest.raises(Permanent, match="was undone once"):
            await place.desk.prepare(UNDO, workload=app)
        forward = await place.desk.undo(UNDO, plan)
        assert (await place.desk.act(UNDO, forward)).outcome is Outcome.OK
        assert await place.image(app) == IMAGES[1]


async def _released(place: Place, image: str, app: str = APP) -> None:
    await place.release(image, app)
    await place.rolled_out(app)


@both
@each_workload
async def test_an_undo_leads_to_the_revision_that_is_named(kind: str, app: str) -> None:
    async with placed(kind, app) as place:
        first = (await place.desk.done("kubernetes.workload", workload=app))["revision"]
        await _released(place, IMAGES[1], app)
        with pytest.raises(Permanent, match="has no revision 97; nothing was changed: the cluster keeps 2, 1"):
            await place.desk.prepare(UNDO, workload=app, to_revision=97)
        await place.desk.done(UNDO, workload=app, to_revision=first)
        assert await place.image(app) == IMAGES[0]


@both
@each_workload
async def test_our_cure_is_kept_when_the_release_is_undone(kind: str, app: str) -> None:
    async with placed(kind, app) as place:
        await _released(place, IMAGES[1], app)
        await place.desk.done(SET_ENV, workload=app, set={"EXTRA": "1", "EMPTY": "", "LOG": "debug"}, remove=["MODE"])
        await place.rolled_out(app)
        told = await place.desk.done("kubernetes.workload", workload=app)
        await place.desk.done(UNDO, workload=app)
        (container,) = items(await place.object(workload_of(app).resource), "spec", "template", "spec", "containers")
        assert text(container, "image") == IMAGES[0]
        kept = [(text(one, "name"), text(one, "value")) for one in items(container, "env")]
        assert kept == [("LOG", "debug"), ("EXTRA", "1"), ("EMPTY", "")]
        assert told["images"] == [IMAGES[1].rpartition("/")[2]]


@both
async def test_a_paused_workload_is_left_alone(kind: str) -> None:
    async with placed(kind) as place:
        await _released(place, IMAGES[1])
        plan = await place.desk.prepare(RESTART, workload=APP)
        await place.edit(DEPLOYMENTS, {"spec": {"paused": True}})
        for action, with_ in ((RESTART, {}), (UNDO, {}), (SET_ENV, {"set": {"LOG": "debug"}})):
            with pytest.raises(Permanent, match=r"is paused; nothing was changed: .*kubectl rollout resume"):
                await place.desk.prepare(action, workload=APP, **with_)
        assert (await place.desk.act(RESTART, plan)).outcome is Outcome.PERMANENT
        assert (await place.desk.done("kubernetes.workload", workload=APP))["paused"] is True


@both
@each_workload
async def test_a_release_that_cannot_run_is_seen_and_undone(kind: str, app: str) -> None:
    async with placed(kind, app, replicas=2) as place:
        if place.fake is not None:
            place.fake.bad.add(BROKEN.rpartition("/")[2])
            place.fake.add("events", event("one", f"{NAME}-1", "BackOff", "Back-off restarting failed container app"))
        await place.release(BROKEN, app)

        async def trouble() -> bool:
            pods = await place.desk.done("kubernetes.pods", workload=app)
            warnings = await place.desk.done("kubernetes.events", workload=app)
            status = await place.desk.done("kubernetes.rollout_status", workload=app)
            assert not status["done"]
            has_deadline = app == APP and place.fake is None
            return bool(pods["why"]) and bool(warnings["by_reason"]) and status["failed"] is has_deadline

        await place.until(trouble, "pods, events and the rollout tell of the image that cannot run")
        plan = await place.desk.prepare(UNDO, workload=app)
        assert (await place.desk.act(UNDO, plan)).outcome is Outcome.OK
        if app.startswith("statefulset"):
            assert "it replaces none before they are" in plan.preview
            await _without_the_broken(place, app)
        await place.rolled_out(app)
        told = await place.desk.done("kubernetes.workload", workload=app)
        assert told["ready"] == told["desired"] >= 1


async def _without_the_broken(place: Place, app: str) -> None:
    """A StatefulSet waits for the pods of the release that cannot run, until somebody deletes them."""

    async def waits() -> bool:
        status = await place.desk.done("kubernetes.rollout_status", workload=app)
        assert not status["done"]
        return "it replaces no pod before they are" in status["why"]

    await place.until(waits, "the rollout says what it waits for")
    for pod in (await place.desk.done("kubernetes.pods", workload=app))["pods"]:
        if not pod["ready"]:
            await place.desk.done(DELETE, pod=pod["name"])


# --- numbers and settings ---------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("app", [APP, f"statefulset/{NAME}"])
async def test_scaling_and_settings_are_put_back(kind: str, app: str) -> None:
    async with placed(kind, app) as place:
        changes: list[tuple[str, dict[str, Any]]] = [
            (SCALE, {"workload": app, "replicas": 2, "min": 1, "max": 2}),
            (SET_ENV, {"workload": app, "set": {"LOG": "debug"}, "remove": ["MODE"]}),
            (SET_KEY, {"configmap": NAME, "set": {"max": "10"}}),
        ]
        for action, with_ in changes:
            await place.rolled_out(app)
            plan = await place.desk.prepare(action, **with_)
            ended = await place.desk.act(action, plan)
            assert ended.outcome is Outcome.OK, ended.detail
            again = await place.desk.act(action, plan)
            assert (again.outcome, "was so already" in again.detail) == (Outcome.OK, True)
            back = await place.desk.undo(action, plan)
            assert (await place.desk.act(action, back)).outcome is Outcome.OK
        assert part(await place.object(workload_of(app).resource), "spec", "replicas") == 1
        assert part(await place.object(CONFIG_MAPS), "data", "max") == "20"


@both
async def test_an_autoscaler_is_respected_and_its_minimum_is_raised(kind: str) -> None:
    async with placed(kind) as place:
        await place.add(AUTOSCALERS, {**autoscaler(NAME, 1, 3), "apiVersion": "autoscaling/v2"})
        with_ = {"workload": APP, "replicas": 2, "min": 1, "max": 3}
        with pytest.raises(Permanent, match=r"the autoscaler responder-test \(1–3\) sets its number"):
            await place.desk.prepare(SCALE, **with_)
        plan = await place.desk.prepare(SCALE, **with_, autoscaler="raise_minimum")
        assert (await place.desk.act(SCALE, plan)).outcome is Outcome.OK
        assert part(await place.object(AUTOSCALERS), "spec", "minReplicas") == 2
        if place.fake is None:
            await place.until(lambda: _wants(place, 2), "the autoscaler raises the number of pods")
        back = await place.desk.undo(SCALE, plan)
        assert (await place.desk.act(SCALE, back)).outcome is Outcome.OK
        told = (await place.desk.done("kubernetes.workload", workload=APP))["autoscaler"]
        assert told == {"name": NAME, "min": 1, "max": 3}


async def _wants(place: Place, number: int) -> bool:
    return whole(await place.object(), "spec", "replicas") == number


@both
@pytest.mark.parametrize(
    ("action", "with_", "resource"),
    [
        (SCALE, {"workload": APP, "replicas": 2, "min": 1, "max": 2}, DEPLOYMENTS),
        (SET_ENV, {"workload": APP, "set": {"LOG": "debug"}}, DEPLOYMENTS),
        (SET_KEY, {"configmap": NAME, "set": {"max": "10"}}, CONFIG_MAPS),
    ],
)
async def test_a_change_at_the_same_moment_is_seen_and_kept(
    kind: str, action: str, with_: dict[str, Any], resource: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with placed(kind) as place:
        plan = await place.desk.prepare(action, **with_)
        with monkeypatch.context() as during:
            _interfere(during, place, resource)
            ended = await place.desk.act(action, plan)
        assert ended.outcome is Outcome.TEMPORARY, ended.detail
        assert "somebody changed the object at the same moment" in ended.detail
        assert (await place.desk.act(action, plan)).outcome is Outcome.OK
        assert part(await place.object(resource), "metadata", "labels", "team") == "other"


def _interfere(monkeypatch: pytest.MonkeyPatch, place: Place, resource: Any) -> None:
    """Somebody else changes the object right before our change arrives."""
    plain, done = LibraryWire.ask, False

    async def ask(wire: LibraryWire, call: KubernetesCall, patience: float, clear: Clear) -> Reply:
        nonlocal done
        if call.changes and not done:
            done = True
            await place.edit(resource, {"metadata": {"labels": {"team": "other"}}})
        return await plain(wire, call, patience, clear)

    monkeypatch.setattr(LibraryWire, "ask", ask)


# --- pods -------------------------------------------------------------------------------------------------------------


@both
@each_workload
@pytest.mark.parametrize(("action", "said"), [(DELETE, {}), (EVICT, {"budget": "optional", "min_ready": 0})])
async def test_a_pod_is_tried_and_then_taken_away(kind: str, app: str, action: str, said: dict[str, Any]) -> None:
    async with placed(kind, app) as place:
        pod, *_ = await place.pods(app)
        plan = await place.desk.prepare(action, pod=pod, **said)
        assert (await place.desk.probe(action, plan)).answer.value == "not_applied"
        assert (await place.desk.act(action, plan)).outcome is Outcome.OK
        assert (await place.desk.probe(action, plan)).answer.value == "applied"


@both
@pytest.mark.parametrize(("action", "said"), [(DELETE, {}), (EVICT, {"budget": "optional", "min_ready": 0})])
async def test_a_successor_of_the_same_name_is_never_touched(kind: str, action: str, said: dict[str, Any]) -> None:
    app = f"statefulset/{NAME}"
    async with placed(kind, app) as place:
        (pod,) = await place.pods(app)
        plan = await place.desk.prepare(action, pod=pod, **said)
        await place.desk.done(DELETE, pod=pod)

        async def is_back() -> bool:
            (now,) = [await place.connection.send(KubernetesCall("get", PODS, place.namespace, pod), 10)]
            return now.status == 200 and text(now.object, "metadata", "uid") != plan.before

        await place.until(is_back, "the StatefulSet makes its pod anew")
        ended = await place.desk.act(action, plan)
        assert (ended.outcome, "was gone already" in ended.detail) == (Outcome.OK, True), ended.detail
        assert part(await place.object(PODS, pod), "metadata", "deletionTimestamp") is None


@both
async def test_a_budget_lets_an_eviction_wait(kind: str) -> None:
    async with placed(kind, replicas=2) as place:
        await place.add(BUDGETS, budget(NAME, 2))
        pod, *_ = await place.pods()

        async def is_counted() -> bool:
            status = part(await place.object(BUDGETS), "status")
            return place.fake is not None or whole(status, "currentHealthy") == 2

        await place.until(is_counted, "the budget counts the pods")
        plan = await place.desk.prepare(EVICT, pod=pod)
        assert "a budget forbids it now" in plan.preview
        assert plan.preview.endswith(f"The disruption budget {NAME} needs 2 healthy pods and has 2 currently)")
        ended = await place.desk.act(EVICT, plan)
        assert (ended.outcome, "nothing was changed" in ended.detail) == (Outcome.TEMPORARY, True), ended.detail
        assert pod in await place.pods()
        await place.edit(BUDGETS, {"spec": {"minAvailable": 1}})

        async def goes() -> bool:
            return (await place.desk.act(EVICT, plan)).outcome is Outcome.OK

        await place.until(goes, "the budget allows it")
        assert (await place.desk.probe(EVICT, plan)).answer.value == "applied"


@both
async def test_a_pod_of_two_budgets_is_not_said_to_be_evicted(kind: str) -> None:
    async with placed(kind) as place:
        await place.add(BUDGETS, budget(NAME, 0))
        (pod,) = await place.pods()
        plan = await place.desk.prepare(EVICT, pod=pod, min_ready=0)
        second = budget(NAME, 0)
        second["metadata"]["name"] = SECOND
        await place.add(BUDGETS, second)
        ended = await place.desk.act(EVICT, plan)
        assert (ended.outcome, "more than one PodDisruptionBudget" in ended.detail) == (Outcome.UNKNOWN, True), ended
        assert (await place.desk.probe(EVICT, plan)).answer.value == "not_applied"
        with pytest.raises(Permanent, match="more than one PodDisruptionBudget covers it; nothing was changed"):
            await place.desk.prepare(EVICT, pod=pod, min_ready=0)


@both
async def test_a_pod_is_evicted_only_where_others_serve(kind: str) -> None:
    async with placed(kind) as place:
        (pod,) = await place.pods()
        with pytest.raises(Permanent, match="no PodDisruptionBudget covers it"):
            await place.desk.prepare(EVICT, pod=pod)
        await place.add(BUDGETS, budget(NAME, 0))
        plan = await place.desk.prepare(EVICT, pod=pod)
        ended = await place.desk.act(EVICT, plan)
        assert (ended.outcome, "0 other pods of" in ended.detail) == (Outcome.TEMPORARY, True), ended.detail
        assert await place.pods() == [pod]


# --- reading ----------------------------------------------------------------------------------------------------------


@both
@each_workload
async def test_what_is_read(kind: str, app: str) -> None:
    async with placed(kind, app) as place:
        found = await place.desk.done("kubernetes.workload", workload=app)
        assert (found["paused"], found["git"], found["revision"]) == (False, "", 1)
        assert found["desired"] == found["ready"] >= 1
        assert found["released_minutes_ago"] is not None
        pods = await place.desk.done("kubernetes.pods", workload=app)
        assert pods["ready"] == pods["total"] == found["desired"]
        assert (await place.desk.done("kubernetes.events", workload=app))["total"] >= 0


@both
async def test_a_log_is_read_bounded_and_what_has_none_is_told(kind: str) -> None:
    async with placed(kind) as place:
        (pod,) = await place.pods()
        if place.fake is not None:
            place.fake.logs[pod] = "".join(f"line {number}\n" for number in range(100))
        of_one = await place.desk.done("kubernetes.logs", pod=pod, lines=5)
        of_all = await place.desk.done("kubernetes.logs", workload=APP, lines=5, since="10m")
        assert of_one["pod"] == of_all["pod"] == pod
        assert of_one["count"] == len(of_one["lines"]) <= 5


@both
async def test_what_is_not_there_is_told(kind: str) -> None:
    async with placed(kind) as place:
        for action, with_ in ((RESTART, {"workload": "deployment/no-such"}), (DELETE, {"pod": "no-such"})):
            with pytest.raises(Permanent, match="there is no such object; check namespace and name"):
                await place.desk.prepare(action, **with_)
