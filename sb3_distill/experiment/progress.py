"""How far a training has come, on stderr."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback

from sb3_distill.common.phases import phase


class ProgressLine(BaseCallback):
    """
    How far a training has come, for terminals.

    :param text: what is done
    :param total: steps in the end
    :param quiet: whether nothing is said
    """

    def __init__(self, text: str, total: int, quiet: bool = False) -> None:
        super().__init__()
        self.text = text
        self.total = total
        self.quiet = quiet
        self._progress: Progress | None = None
        self._line = ExitStack()

    def __enter__(self) -> "ProgressLine":
        console = Console(stderr=True)
        if self.quiet or not console.is_terminal:
            self._line.enter_context(phase(self.text, self.quiet))
        else:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
            )
            self._progress = Progress(
                *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True
            )
            self._progress.start()
            self._task = self._progress.add_task(self.text, total=self.total)
        return self

    def __exit__(self, *error: object) -> None:
        self._line.close()
        if self._progress is not None:
            self._progress.stop()

    @contextmanager
    def doing(self, text: str) -> Iterator[None]:
        """
        A context in which it says something else.

        :param text: what is done in between
        """
        if self._progress is None:
            yield
            return
        self._progress.update(self._task, description=text)
        try:
            yield
        finally:
            self._progress.update(self._task, description=self.text)

    def _on_training_start(self) -> None:
        self._on_step()

    def _on_step(self) -> bool:
        if self._progress is not None:
            self._progress.update(self._task, completed=min(self.num_timesteps, self.total))
        return True
