"""The demo while it runs: a live picture on a terminal, plain lines elsewhere. Reads the board, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from foreman.cli.demo_jobs import Board, How, Item
from foreman.cli.words import plain, seconds

REFRESH_PER_SECOND: Final = 10
COLORS: Final = {"queued": "yellow", "loading": "magenta", "working": "cyan", "done": "green"}
BAD: Final = "bold red"
#: Lines of the picture that are always there: title, sums, and the blank ones between the parts and below.
FRAME_LINES: Final = 8
#: What is shown of a running answer.
TEXT_LINES: Final = 2
FEWEST_DONE: Final = 2


class View(Protocol):
    """What shows the run, for the length of a `with` block."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show no more."""
        ...

    def changed(self, item: Item) -> None:
        """A job has changed its state."""
        ...


class PlainView:
    """One line for each change of a job's state."""

    def __init__(self, console: Console, board: Board) -> None:
        self._console = console
        self._board = board

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def changed(self, item: Item) -> None:
        """Write the line."""
        line = f"{self._board.elapsed_s:5.1f} s  job {item.order.number:>2} {item.state:<8} {_detail(item)}"
        self._console.print(Text(line), soft_wrap=True)


def _detail(item: Item) -> str:
    order, history = item.order, item.history
    if item.state == "queued":
        return f"{order.model} ({order.how}) {order.prompt}"
    if item.state == "working" and history is not None:
        loaded = "at once" if history.load_s is None else f"after {history.load_s:.2f} s of loading its model"
        return f"{order.model} {loaded}"
    if item.state == "done":
        return f"{order.model} in {item.run_s or 0.0:.1f} s"
    return order.model


class LiveView:
    """A picture that is drawn anew while the jobs run and leaves nothing behind."""

    def __init__(self, console: Console, board: Board, title: str) -> None:
        self._console = console
        self._board = board
        self._title = title
        self._live = Live(
            console=console,
            get_renderable=self._picture,
            refresh_per_second=REFRESH_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def changed(self, item: Item) -> None:
        """Nothing to do: the next picture shows it."""

    def _picture(self) -> RenderableType:
        return picture(self._board, self._title, self._console.width, self._console.height)


def picture(board: Board, title: str, width: int, height: int) -> Group:
    """The queue in running order, what runs, what is done and the sums, in at most that many lines."""
    active = sorted(board.in_state("queued", "loading", "working"), key=_in_line)
    models = list(dict.fromkeys(item.order.model for item in active))
    running = [item for item in active if item.state != "queued"]
    room = height - FRAME_LINES - len(models) - len(running) * (1 + TEXT_LINES)
    queued = len(active) - len(running)
    for_queue = min(queued, max(0, room - FEWEST_DONE))
    done = sorted(board.in_state("done", "failed", "cancelled"), key=lambda item: -(item.ended or 0))
    parts: list[RenderableType] = [_title(board, title), Text()]
    parts += _line_up(active, models, for_queue, width)
    parts += [Text(), *(_row(item, plain(item.text) or item.state) for item in done[: max(0, room - for_queue)])]
    # The last line stays empty: a Ctrl-C that is echoed at the end of a full one would push the picture up.
    parts += [Text(), _counts(board), _loads(board), Text()]
    return Group(*parts)


def _in_line(item: Item) -> tuple[bool, int]:
    return (item.state == "queued", item.position or 0)


def _title(board: Board, title: str) -> Table:
    line = Table.grid(padding=(0, 2), expand=True)
    line.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    line.add_column(justify="right")
    line.add_row(Text.assemble(("foreman", "bold"), f"  {title}"), Text(f"{board.elapsed_s:.0f} s", style="dim"))
    return line


def _line_up(active: list[Item], models: list[str], for_queue: int, width: int) -> Iterator[RenderableType]:
    """What runs and what waits, model by model; `for_queue` lines are there for the waiting."""
    # If not all fit, one line less, for the one that says so.
    waiting = [item for item in active if item.state == "queued"]
    hidden = len(waiting) - for_queue + 1 if len(waiting) > for_queue else 0
    left_out = {item.order.number for item in waiting[len(waiting) - hidden :]} if hidden else set()
    for model in models:
        of_model = [item for item in active if item.order.model == model]
        yield _heading(model, of_model)
        for item in of_model:
            if item.order.number not in left_out:
                yield _row(item, item.order.prompt)
            if item.state != "queued":
                yield _running_text(item, width)
    if hidden:
        yield Text(f"    and {hidden} more", style="dim")


def _heading(model: str, of_model: list[Item]) -> Text:
    first = of_model[0].state
    says = {"working": "is loaded", "loading": "is being loaded"}.get(first, "waits for its turn")
    return Text.assemble((model, "bold"), (f"  {says}", COLORS.get(first, "")))


def _row(item: Item, text: str) -> Table:
    line = Table.grid(padding=(0, 1), expand=True)
    for width in (2, 3, 8, 8):
        line.add_column(width=width, no_wrap=True)
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(width=6, justify="right", no_wrap=True)
    time = seconds(item.run_s) if item.position is None else "next" if item.position == 1 else f"{item.position}."
    line.add_row(
        "", f"#{item.order.number}", Text(item.state, style=COLORS.get(item.state, BAD)),
        Text(item.order.how, style="dim"), Text(text), Text(time, style="dim"),
    )  # fmt: skip
    return line


def _running_text(item: Item, width: int) -> RenderableType:
    """The end of the answer so far, on lines of which there are always as many, so that the picture does not jump."""
    indent, text = 9, plain(item.text)
    if not text and item.order.how is How.BLOCKING and item.state == "working":
        text = "(its caller gets the answer in one piece)"
    room = (width - indent - 1) * TEXT_LINES - len("...") - 20
    shown = Text(text if len(text) <= room else f"...{text[-room:]}", style="italic")
    lines = shown.wrap(Console(width=width), width - indent - 1)[:TEXT_LINES]
    lines.extend([Text()] * (TEXT_LINES - len(lines)))
    return Padding(Group(*lines), (0, 0, 0, indent))


def _counts(board: Board) -> Text:
    counts = [(state, len(board.in_state(state))) for state in ("queued", "loading", "working", "done")]
    counts += [(state, count) for state in ("failed", "cancelled") if (count := len(board.in_state(state)))]
    text = Text()
    for state, count in counts:
        text.append(f"{state} ", style="dim").append(f"{count:<4}", style=COLORS.get(state, BAD))
    return text.append(f"of {len(board.items)}", style="dim")


def _loads(board: Board) -> Text:
    times, in_order = board.load_times_s, board.loads_first_come_first_served()
    avoided = in_order - len(times)
    saved_s = avoided * sum(times) / len(times) if times else 0.0
    return Text.assemble(
        ("model loads ", "dim"),
        (f"{len(times):<4}", "bold"),
        ("first come, first served would be at ", "dim"),
        (f"{in_order:<4}", "bold"),
        (f"{avoided} avoided, {saved_s:.1f} s saved", "green"),
    )  # fmt: skip
