"""A callback around the ``train`` of an algorithm that is SB3's own: a context that each of its updates is made in."""

from abc import abstractmethod
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from sb3_distill.common.event_callbacks import check_told_of_rollouts
from sb3_distill.common.replaced import replaced

#: what is another on the model from a rollout's end to the update after it, and is in no file that is written meanwhile
_REPLACED = ("train", "_excluded_save_params")


class AroundTrain(BaseCallback):
    """
    Calls :meth:`around` when a rollout is over, and has SB3's update made in the context that it returns. Whatever ends the update,
    the model is as it was.
    """

    def __init__(self) -> None:
        super().__init__()
        self._until_train = ExitStack()

    @abstractmethod
    def around(self) -> AbstractContextManager[None] | None:
        """
        :return: the context of the update that comes; None for none
        """

    def _on_training_start(self) -> None:
        # What an error has left, between a rollout and its update: another callback's may stand on top of it.
        with suppress(AttributeError):
            self._until_train.close()
        for name in _REPLACED:
            if getattr(vars(self.model).get(name), "is_around_train", False):
                delattr(self.model, name)
        check_told_of_rollouts(self)

    def _on_rollout_start(self) -> None:
        self._until_train.close()

    def _on_rollout_end(self) -> None:
        context = self.around()
        if context is None:
            return
        model: Any = self.model
        train, excluded = model.train, model._excluded_save_params

        def train_in_context() -> None:
            self._until_train.close()
            with context:
                train()

        def excluded_besides() -> list[str]:
            return [*excluded(), *_REPLACED]  # they would be pickled

        for name, function in zip(_REPLACED, (train_in_context, excluded_besides), strict=True):
            function.is_around_train = True  # type: ignore[attr-defined]
            self._until_train.enter_context(replaced(model, name, function))

    def _on_step(self) -> bool:
        return True
