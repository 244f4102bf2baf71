"""Whatever happens, in whatever order: each metric of the log equals its query over it, from any snapshot on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from foreman.clock import Micros
from foreman.events.daemon import DaemonStarted, ModelSwapped, Stage, TargetDegraded, TargetStalled
from foreman.events.types import DAEMON, JobClass, JobQueued, Position, Recorded, RequeueReason
from foreman.fsm.job import FINISHED, TRANSITIONS, State, advance
from foreman.projections import tally
from foreman.projections.tally import MOST_MODELS, NO_JOB, Tally, facts_of
from tests import reckoning
from tests.core import CANCELLED, DONE, EXPIRED, FAILED, LOADING, QUEUED, REQUEUED, WORKING

#: Each in two spellings.
MODELS = st.sampled_from(["m0", "M0", "m1", "M1", "m2", "M2", "m3", "M3"])
SECONDS = st.sampled_from([0.0, 0.1, 0.3, 1.0, 59.9, 60.0, 3_600.0, 3_600.1, 1e6])
FIGURES = st.none() | st.integers(-3, 10**12)

QUEUEDS = st.builds(
    lambda model, job_class, key: replace(QUEUED, model=model, job_class=job_class, load_key=key),
    MODELS,
    st.sampled_from(JobClass),
    st.sampled_from("abc"),
)
EVENTS = {
    "job.loading": st.just(LOADING),
    "job.working": st.builds(lambda waited_s: replace(WORKING, waited_s=waited_s), SECONDS),
    "job.requeued": st.builds(lambda reason: replace(REQUEUED, reason=reason), st.sampled_from(RequeueReason)),
    "job.done": st.builds(
        lambda prompt, generated, took, first_s, run_s: replace(
            DONE,
            prompt_tokens=prompt,
            generated_tokens=generated,
            eval_duration=took,
            first_token_s=first_s,
            run_s=run_s,
        ),
        *(FIGURES, FIGURES, FIGURES, st.none() | SECONDS, st.none() | SECONDS),
    ),
    "job.failed": st.just(FAILED),
    "job.cancelled": st.just(CANCELLED),
    "job.expired": st.just(EXPIRED),
}
OF_DAEMON = st.one_of(
    st.builds(lambda load_s: ModelSwapped(model="m", load_key="a", load_s=load_s), SECONDS),
    st.just(TargetDegraded(error="gone")),
    st.builds(lambda stage: TargetStalled(stage=stage, model="m", job_id="J", silent_s=1.0), st.sampled_from(Stage)),
    st.just(DaemonStarted(foreman_version="1", sqlite_version="3", waiting=0, requeued=0, cancelled=0)),
)


@st.composite
def logs(draw) -> list[Recorded]:
    """A log in which each job goes a way that the state machine allows."""
    states: dict[str, State] = {}
    versions: dict[str, int] = {}
    made: list[Recorded] = []
    # Jobs of models of their own to begin with, so that some of those that follow may find no room.
    first = draw(st.sampled_from([0, MOST_MODELS - 2]))
    for position in range(1, first + draw(st.integers(1, 120)) + 1):
        active = [job_id for job_id, state in states.items() if state is not State.EXPIRED]
        stream = f"J{position}" if position <= first else draw(st.sampled_from([DAEMON, f"J{position}", *active[-8:]]))
        if position <= first:
            event = replace(QUEUED, model=f"first-{position}")
        elif stream == DAEMON:
            event = draw(OF_DAEMON)
        elif stream not in states:
            event = draw(QUEUEDS)
        else:
            allowed = [kind.type for kind, sources, _ in TRANSITIONS if states[stream] in sources]
            event = draw(EVENTS[draw(st.sampled_from(allowed))])
        if stream != DAEMON:
            states[stream] = advance(states.get(stream, State.NEW), event)
        versions[stream] = versions.get(stream, 0) + 1
        made.append(
            Recorded(
                position=Position(position),
                stream=stream,
                version=versions[stream],
                at=Micros(position),
                hash=b"",
                event=event,
            )
        )
    return made


def fold(events: list[Recorded], snapshots: list[int]) -> Tally:
    """The fold, put away and taken up again after each of these numbers of events."""
    state = Tally()
    facts = {item.stream: facts_of(item.event) for item in events if isinstance(item.event, JobQueued)}
    for number, item in enumerate(events, 1):
        state.apply(item, facts.get(item.stream, NO_JOB))
        if number in snapshots:
            state = tally.load(state.dump())
    return state


@given(logs(), st.lists(st.integers(1, 120), max_size=4))
def test_every_metric_equals_its_query_over_any_log(events, snapshots):
    state = fold(events, snapshots)
    reckoning.assert_equal(reckoning.of_tally(state), reckoning.of_events(events))
    assert state == fold(events, [])
    ends = {item.stream for item in events if item.event.type in {f"job.{state.value}" for state in FINISHED}}
    assert not ends & state.running
