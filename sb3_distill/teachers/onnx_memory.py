"""A network in an ONNX file that remembers the episode: its state goes in with an observation, and comes out with the answer."""

from typing import Any

import numpy as np
import torch as th

from sb3_distill.common.observations import each_part
from sb3_distill.common.user_code import first_line
from sb3_distill.teachers.answer_kinds import AnswerError
from sb3_distill.teachers.onnx_function import DTYPES, START, OnnxFunction


class OnnxMemory:
    """
    From one observation after the other to what the file answers. Each environment has a copy, of which the network is one.

    :param function: of a file with states
    """

    def __init__(self, function: OnnxFunction) -> None:
        self.function = function
        self.__name__ = function.__name__
        self.reset()

    def __deepcopy__(self, memo: Any) -> "OnnxMemory":
        return OnnxMemory(self.function)

    def state_dict(self) -> dict[str, th.Tensor]:
        """What tells it from other files."""
        return self.function.state_dict()

    def reset(self) -> None:
        """Forget: an episode begins."""
        self.begins = True
        self.state: dict[str, np.ndarray] = {
            name: np.zeros(self._shape(name), DTYPES[self._type(name)]) for name in self.function.states
        }

    def __call__(self, obs: Any) -> Any:
        """
        :param obs: one observation
        :return: one answer; a tuple of several outputs
        """
        function = self.function
        given = function.given(each_part(obs, lambda values: np.asarray(values)[None]), 1) | self.state
        if START in function.by_name:
            one = function.by_name[START]
            given[START] = np.full([1] * len(one.shape), self.begins, DTYPES[one.type])
        try:
            said = function.session.run([*function.outputs, *function.states.values()], given)
        except Exception as error:  # of its own classes
            raise AnswerError(
                f"{function.path} cannot be asked about one state at a time: {first_line(error)}. {function.expected}"
            ) from error
        n = len(function.outputs)
        self.state, self.begins = dict(zip(function.states, said[n:], strict=True)), False
        whole = [part[0] if np.ndim(part) else part for part in said[:n]]
        return tuple(whole) if n > 1 else whole[0]

    def _shape(self, name: str) -> list[int]:
        """Of one environment's: what the file does not fix is the batch."""
        return [size if isinstance(size, int) and size > 0 else 1 for size in self.function.by_name[name].shape]

    def _type(self, name: str) -> str:
        return str(self.function.by_name[name].type)
