"""What waits and what runs, in memory: the queue projection. A fold of the jobs' events, nothing more."""

from __future__ import annotations

from collections.abc import Iterable

from foreman.events.types import (
    JobCancelled,
    JobDone,
    JobFailed,
    JobLoading,
    JobQueued,
    JobRequeued,
    JobWorking,
    Recorded,
)
from foreman.fsm.job import WAITING
from foreman.projections.job import Job
from foreman.projections.queue import Queue, Waiting


class Work:
    """Every job that is not finished, as the log has it."""

    def __init__(self) -> None:
        self.queue = Queue()
        #: Jobs that load or work, by id; what is kept of each is what it needs to wait again.
        self.running: dict[str, Waiting] = {}

    @classmethod
    def of(cls, jobs: Iterable[Job]) -> Work:
        """The projection as it stands when these are all the unfinished jobs."""
        work = cls()
        for job in jobs:
            entry = Waiting(
                job_id=job.job_id,
                load_key=job.load_key,
                job_class=job.job_class,
                order=job.order,
                queued_at=job.created_at,
                not_before=job.not_before,
            )
            if job.state in WAITING:
                work.queue.add(entry)
            else:
                work.running[job.job_id] = entry
        return work

    def has(self, job_id: str) -> bool:
        """Whether the job waits or runs."""
        return job_id in self.queue or job_id in self.running

    def apply(self, recorded: Recorded) -> None:
        """Take one more event into account."""
        event, job_id = recorded.event, recorded.stream
        if isinstance(event, JobQueued):
            self.queue.add(
                Waiting(
                    job_id=job_id,
                    load_key=event.load_key,
                    job_class=event.job_class,
                    order=recorded.position,
                    queued_at=recorded.at,
                    not_before=None,
                )
            )
        elif isinstance(event, JobLoading | JobWorking):
            entry = self.queue.get(job_id)
            if entry is not None:  # else it comes from loading
                self.queue.remove(job_id)
                self.running[job_id] = entry
        elif isinstance(event, JobRequeued):
            before = self.running.pop(job_id)
            self.queue.add(
                Waiting(
                    job_id=job_id,
                    load_key=before.load_key,
                    job_class=before.job_class,
                    order=before.order,
                    queued_at=before.queued_at,
                    not_before=event.not_before,
                )
            )
        elif isinstance(event, JobDone | JobFailed | JobCancelled):
            self.queue.remove(job_id)
            self.running.pop(job_id, None)
