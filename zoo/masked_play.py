"""rl_zoo3's scripts in environments that allow some actions only: ``predict`` and ``EvalCallback``, which they ask, know of no masks."""

from typing import Any

import rl_zoo3
import rl_zoo3.exp_manager
import rl_zoo3.utils
from rl_zoo3.callbacks import TrialEvalCallback
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.algorithms.maskable_ppo import DistillMaskablePPO
from sb3_distill.common.masks import has_masks, masks_now
from sb3_distill.common.observations import length


class MaskableTrialEvalCallback(TrialEvalCallback, MaskableEvalCallback):
    """rl_zoo3's, of ``-optimize``, with masks."""


#: the environment that rl_zoo3's script has made last
_MADE: list[VecEnv] = []


def predict(self: MaskablePPO, observation: Any, *args: Any, action_masks: Any = None, **kwargs: Any) -> Any:
    """MaskablePPO's, which asks the environment that is played what is allowed, if nobody says it."""
    env = _MADE[-1] if _MADE else None
    if action_masks is None and env is not None and length(observation) == env.num_envs and has_masks(env):
        action_masks = masks_now(env, "of what is played")
    return MaskablePPO.predict(self, observation, *args, action_masks=action_masks, **kwargs)  # type: ignore[misc]


def heed_masks() -> None:
    """Let rl_zoo3's scripts, which are imported after this, play masked students as they are."""
    create = rl_zoo3.utils.create_test_env

    def create_test_env(*args: Any, **kwargs: Any) -> VecEnv:
        _MADE[:] = [create(*args, **kwargs)]
        return _MADE[0]

    rl_zoo3.utils.create_test_env = rl_zoo3.create_test_env = create_test_env
    DistillMaskablePPO.predict = predict  # type: ignore[method-assign, assignment]


def with_masked_evaluation(call: Any) -> Any:
    """
    :param call: of rl_zoo3's, that makes the callbacks which evaluate
    :return: what it returns, with callbacks that ask what is allowed
    """
    module, names = rl_zoo3.exp_manager, ("EvalCallback", "TrialEvalCallback")
    theirs = [getattr(module, name) for name in names]
    for name, kind in zip(names, (MaskableEvalCallback, MaskableTrialEvalCallback), strict=True):
        setattr(module, name, kind)
    try:
        return call()
    finally:
        for name, kind in zip(names, theirs, strict=True):
            setattr(module, name, kind)
