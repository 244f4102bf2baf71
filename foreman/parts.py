"""The composition root: the only file that knows which concrete parts there are. Joins them and starts nothing."""

from __future__ import annotations

from foreman.api.server import ENDPOINTS
from foreman.clock import Clock
from foreman.commands.ledger import Ledger
from foreman.commands.schema import MIGRATIONS
from foreman.config.settings import Settings
from foreman.destinations import Destinations
from foreman.events.daemon import Scheduling
from foreman.events.feed import Feed
from foreman.metrics.exporter import Exporter
from foreman.metrics.meters import Meters
from foreman.scheduling.outlook import Outlook
from foreman.scheduling.scheduler import Policy
from foreman.signing import Signer
from foreman.storage.database import Database
from foreman.tails import Tails
from foreman.target.client import Target, TargetAddress
from foreman.target.inventory import Inventory
from foreman.target.residency import Residency
from foreman.webhooks.dispatcher import Dispatcher, Post
from foreman.webhooks.payload import Style
from foreman.webhooks.sender import Sender
from foreman.worker.bench import Bench
from foreman.worker.embedder import Embedder
from foreman.worker.loop import Worker
from foreman.worker.stall import Patience
from foreman.worker.sweeper import Sweeper


class Parts:
    """Every part of a daemon but its HTTP server, made from its settings."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.database = Database(settings.db_path, MIGRATIONS)
        self.ledger = Ledger(self.database, Feed(), clock, settings.max_queue)
        self.target = Target(target_address(settings))
        self.inventory = Inventory(self.target, clock, settings.poll_interval_s, settings.stall_after_s)
        self.residency = Residency(clock)
        self.inventory.on_listing.append(self.residency.observe)
        self.tails = Tails()
        self.scheduling = scheduling_of(settings)
        self.worker = Worker(self._bench(), Policy.of(self.scheduling))
        self.inventory.wedge.wanted = self.worker.wanted
        self.outlook = Outlook(
            self.ledger, self.inventory, self.residency, self.tails, self.worker.policy, lambda: self.worker.turn
        )
        self.destinations = Destinations(settings.webhook_networks, settings.ollama_url)
        self.dispatcher = self._dispatcher()
        self.sweeper = Sweeper(self.database, self.ledger, clock, settings.job_ttl_s)
        self.embedder = (
            Embedder(settings.embed_model, self.target, self.inventory, self.residency)
            if settings.embed_model
            else None
        )
        self.meters = Meters(clock, ENDPOINTS)
        self.ledger.on_commit.append(self.meters.committed)
        self.exporter = Exporter(
            self.ledger, self.database, self.inventory, self.residency, self.meters, self.outlook.promises
        )

    def _bench(self) -> Bench:
        settings = self.settings
        return Bench(
            ledger=self.ledger,
            read=self.database.read,
            target=self.target,
            inventory=self.inventory,
            residency=self.residency,
            tails=self.tails,
            clock=self.clock,
            keep_alive=settings.keep_alive,
            patience=Patience(start_s=settings.stall_after_s, between_s=settings.stall_between_s),
        )

    def _dispatcher(self) -> Dispatcher:
        settings, secret = self.settings, self.settings.webhook_secret
        post = Post(
            ledger=self.ledger,
            read=self.database.read,
            clock=self.clock,
            sender=Sender(self.destinations, settings.webhook_timeout_s),
            signer=Signer.of(secret.get_secret_value()) if secret else Signer(),
            style=Style(base_url=settings.public_url or "", inline_limit_bytes=settings.inline_limit_bytes),
        )
        return Dispatcher(post, settings.webhook_concurrency)


def scheduling_of(settings: Settings) -> Scheduling:
    """The settings by which jobs are chosen."""
    return Scheduling(
        max_wait_s=settings.max_wait_s,
        max_wait_interactive_s=settings.max_wait_interactive_s,
        swap_share=settings.swap_share,
        parallel=settings.parallel,
    )


def target_address(settings: Settings) -> TargetAddress:
    """Where the settings say that the target is."""
    return TargetAddress(
        url=settings.ollama_url,
        token=settings.ollama_token.get_secret_value() if settings.ollama_token else None,
        host_header=settings.ollama_host_header or "",
        connect_timeout_s=settings.connect_timeout_s,
    )
