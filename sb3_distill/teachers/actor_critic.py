"""Teachers with a policy of their own and a critic: PPO, A2C, TRPO, MaskablePPO."""

from typing import Any

import numpy as np
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy

from sb3_distill.common.observations import length
from sb3_distill.common.spaces import action_tensor
from sb3_distill.rules.distributions import parameters
from sb3_distill.teachers.teacher import Answer, Teacher


class ActorCriticTeacher(Teacher):
    """
    A teacher from PPO, A2C, TRPO or MaskablePPO: its own action distribution and its own critic, which does not depend on masks.
    """

    policy: ActorCriticPolicy | MaskableActorCriticPolicy

    def _answer(self, obs: Any, with_value: bool) -> Answer:
        if not with_value:
            return Answer(parameters(self.policy.get_distribution(obs)), None)
        # One pass through a shared features extractor. forward() would do too, but it draws actions and so
        # would shift the global random state that the student's run depends on.
        n = length(obs)
        actions = action_tensor(self.action_space, np.zeros((n, *(self.action_space.shape or ())))).to(self.device)
        values, _, _ = self.policy.evaluate_actions(obs, actions)
        return Answer(parameters(self.policy.action_dist), values.flatten() * self.value_scale)
