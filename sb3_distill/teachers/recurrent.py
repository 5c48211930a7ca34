"""A teacher that remembers: RecurrentPPO.

Its answer depends on the episode so far, and all else here asks about states in batches of any order. So the memory is
kept where the episode is, in a wrapper around the environment: :class:`Recall` runs the LSTM as the steps come, and what
the LSTM has made of the episode is the observation that the teacher answers about.
"""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_distill.common.layers import Layer
from sb3_distill.common.observations import each_part, length
from sb3_distill.common.questions import as_dones
from sb3_distill.rules.distributions import parameters
from sb3_distill.teachers.teacher import Answer, Observation, Teacher

State = tuple[th.Tensor, th.Tensor]


class RecurrentTeacher(Teacher):
    """A teacher from RecurrentPPO. :meth:`answer` takes the observations of :meth:`view`."""

    policy: RecurrentActorCriticPolicy

    def view(self, env: VecEnv) -> VecEnv:
        return Recall(env, self)

    def at_start(self, obs: Any) -> np.ndarray:
        n = length(obs)
        return self.recall(obs, self.blank(n), np.ones(n))[0]

    def blank(self, n: int) -> tuple[State, State]:
        """
        :param n: environments side by side
        :return: the LSTMs' state before an episode
        """
        layers, _, hidden = self.policy.lstm_hidden_state_shape
        zeros = th.zeros(layers, n, hidden, device=self.device)
        return (zeros, zeros), (zeros, zeros)

    def prepare(self, obs: Observation) -> th.Tensor:
        return th.as_tensor(obs, device=self.device)

    def recall(
        self, obs: Any, state: tuple[State, State], starts: np.ndarray
    ) -> tuple[np.ndarray, tuple[State, State]]:
        """
        One step of the LSTMs.

        :param obs: n observations as the environment gives them
        :param state: of the actor's and the critic's LSTM, after the step before
        :param starts: where an episode begins, shape (n,)
        :return: what actor and critic remember, joined, shape (n, 2 · lstm_hidden_size); the new state
        """
        policy = self.policy
        pi_state: Any
        first = th.as_tensor(starts, dtype=th.float32, device=self.device)
        with th.no_grad():
            features: Any = policy.extract_features(super().prepare(obs))
            pi_features, vf_features = (features, features) if policy.share_features_extractor else features
            pi, pi_state = policy._process_sequence(pi_features, state[0], first, policy.lstm_actor)
            vf_state: Any = pi_state
            if policy.lstm_critic is not None:
                vf, vf_state = policy._process_sequence(vf_features, state[1], first, policy.lstm_critic)
            else:
                assert policy.critic is not None or policy.shared_lstm
                vf = pi if policy.critic is None else policy.critic(vf_features)
        return th.cat([pi, vf], dim=-1).cpu().numpy(), (pi_state, vf_state)

    def _answer(self, obs: th.Tensor, with_value: bool) -> Answer:
        pi, vf = obs.chunk(2, dim=-1)
        params = parameters(self.policy._get_action_dist_from_latent(self.policy.mlp_extractor.forward_actor(pi)))
        if not with_value:
            return Answer(params, None)
        value = self.policy.value_net(self.policy.mlp_extractor.forward_critic(vf)).flatten()
        return Answer(params, value * self.value_scale)


class Recall(Layer):
    """
    An environment whose observations are what a recurrent teacher remembers of the episode.

    :param venv: the environment as the teacher was trained in it
    :param teacher: whose LSTM it runs
    """

    def __init__(self, venv: VecEnv, teacher: RecurrentTeacher) -> None:
        self.hidden = teacher.policy.lstm_hidden_state_shape[2]
        super().__init__(venv, spaces.Box(-np.inf, np.inf, (2 * self.hidden,)))
        self.teacher = teacher
        self.state = teacher.blank(venv.num_envs)

    def reset(self) -> VecEnvObs:
        return self._advance(self.venv.reset(), np.ones(self.num_envs))

    def step_wait(self) -> VecEnvStepReturn:
        obs, rewards, dones, infos = self.venv.step_wait()
        dones = as_dones(dones)
        for i in np.flatnonzero(dones):
            if infos[i].get("terminal_observation") is not None:
                infos[i]["terminal_observation"] = self._end(infos[i]["terminal_observation"], int(i))
        return self._advance(obs, dones), rewards, dones, infos

    def _advance(self, obs: VecEnvObs, starts: np.ndarray) -> np.ndarray:
        remembered, self.state = self.teacher.recall(obs, self.state, starts)
        return remembered

    def _end(self, obs: Any, i: int) -> np.ndarray:
        """What is remembered in the last state of an episode of one environment."""
        one = each_part(obs, lambda values: values[None])
        (pi_h, pi_c), (vf_h, vf_c) = self.state
        part = slice(i, i + 1)
        state = ((pi_h[:, part], pi_c[:, part]), (vf_h[:, part], vf_c[:, part]))
        return self.teacher.recall(one, state, np.zeros(1))[0][0]
