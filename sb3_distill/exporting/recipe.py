"""What an agent does from the environment's observation to the environment's action, as one module of tensors.

The network and its distribution are SB3's own, which are traced and not written again. What ``predict`` does around them in NumPy is
here: the statistics of ``VecNormalize``, the layout of images, and clipping or unsquashing of actions.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.ars.policies import ARSPolicy
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BaseModel, BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim, is_image_space
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

from sb3_distill.agents.normalization import NormalizeStatistics
from sb3_distill.rules.distributions import parameters
from sb3_distill.teachers.onnx_function import MASKS, NEXT, START

#: names of the inputs and outputs that are no observations
ACTION, SCORES = "action", "scores"
STATES = ("lstm_hidden", "lstm_cell")
NEXT_STATES = (NEXT + STATES[0], NEXT + STATES[1])
OBSERVATION = "observation"
RESERVED = (ACTION, SCORES, MASKS, START, *STATES, *NEXT_STATES)


class Port(NamedTuple):
    """An input or an output.

    :param name: of it
    :param shape: of one state's, without the batch
    :param dtype: NumPy's name of it
    :param key: of a ``Dict`` observation
    :param batch_axis: where the batch is
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    key: str | None = None
    batch_axis: int = 0

    @property
    def full_shape(self) -> tuple[int | str, ...]:
        """With the batch."""
        shape: list[int | str] = list(self.shape)
        shape.insert(self.batch_axis, "batch")
        return tuple(shape)


class Recipe(nn.Module):
    """
    From raw observations to actions.

    :param policy: of SB3 or sb3-contrib, on the CPU
    :param statistics: of the ``VecNormalize`` that it was trained under
    :param observation_space: of the environment, images as it gives them
    """

    low: th.Tensor
    high: th.Tensor

    def __init__(
        self, policy: BasePolicy, statistics: NormalizeStatistics | None, observation_space: spaces.Space
    ) -> None:
        super().__init__()
        self.policy = policy
        self.observations = observation_ports(observation_space)
        self.extras = _extra_inputs(policy)
        self.gives_scores = gives_scores(policy)
        self.normalizers = nn.ModuleDict()
        self.layouts: dict[str, bool] = {}
        for port in self.observations:
            own = policy.observation_space
            seen = own[port.key] if port.key is not None and isinstance(own, spaces.Dict) else own
            self.layouts[port.name] = is_channels_last(port.shape, tuple(seen.shape or ()))
            normalizer = _normalizer(statistics, port)
            if normalizer is not None:
                self.normalizers[_module_name(port, self.observations)] = normalizer
        self.clips, self.unsquashes = False, False
        space = policy.action_space
        if isinstance(space, spaces.Box):
            self.register_buffer("low", th.as_tensor(np.array(space.low)))
            self.register_buffer("high", th.as_tensor(np.array(space.high)))
            self.unsquashes = bool(policy.squash_output)
            self.clips = not self.unsquashes and bool(np.isfinite(space.low).any() or np.isfinite(space.high).any())

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What :meth:`forward` takes, in that order."""
        return (*self.observations, *self.extras)

    @property
    def outputs(self) -> tuple[Port, ...]:
        """What :meth:`forward` gives, in that order."""
        space = self.policy.action_space
        if isinstance(space, spaces.Box):
            dtype = str(np.result_type(np.float32, space.low.dtype))
        else:
            dtype = "float32" if isinstance(space, spaces.MultiBinary) else "int64"
        found = [Port(ACTION, tuple(space.shape or ()), dtype)]
        if self.gives_scores:
            found.append(Port(SCORES, (n_scores(space),), "float32"))
        if isinstance(self.policy, RecurrentActorCriticPolicy):
            found += [
                state._replace(name=name) for state, name in zip(_lstm_states(self.policy), NEXT_STATES, strict=True)
            ]
        return tuple(found)

    def forward(self, *given: th.Tensor) -> tuple[th.Tensor, ...]:
        """
        :param given: a batch of each of ``inputs``
        :return: a batch of each of ``outputs``
        """
        n = len(self.observations)
        parts = {port.key: self._seen(port, values) for port, values in zip(self.observations, given[:n], strict=True)}
        obs: Any = parts[None] if None in parts else parts
        action, *more = self._decide(obs, given[n:])
        return (self._in_the_environments_terms(action), *more)

    def normalizer_of(self, port: Port) -> "Normalizer | None":
        """:return: what normalises an input, if anything does"""
        name = _module_name(port, self.observations)
        found = self.normalizers[name] if name in self.normalizers else None
        assert found is None or isinstance(found, Normalizer)
        return found

    def is_scaled_image(self, port: Port) -> bool:
        """:return: whether an input is an image whose bytes the policy divides by 255"""
        own = self.policy.observation_space
        seen = own[port.key] if port.key is not None and isinstance(own, spaces.Dict) else own
        return isinstance(seen, spaces.Box) and is_image_space(seen) and bool(self.policy.normalize_images)

    def _seen(self, port: Port, values: th.Tensor) -> th.Tensor:
        """An observation as the policy reads it."""
        normalizer = self.normalizer_of(port)
        if normalizer is not None:
            values = normalizer(values)
        if self.layouts[port.name]:
            values = values.permute(0, 3, 1, 2)
        return values

    def _decide(self, obs: Any, extras: tuple[th.Tensor, ...]) -> tuple[th.Tensor, ...]:
        policy: Any = self.policy
        if isinstance(policy, RecurrentActorCriticPolicy):
            return self._decide_with_memory(obs, *extras)
        masks = {"action_masks": extras[0]} if extras else {}
        if not self.gives_scores:
            return (policy._predict(obs, deterministic=True, **masks),)
        if isinstance(policy, DQNPolicy):
            scores = policy.q_net(obs)
            return scores.argmax(dim=1).reshape(-1), scores
        if isinstance(policy, QRDQNPolicy):
            scores = policy.quantile_net(obs).mean(dim=1)
            return scores.argmax(dim=1).reshape(-1), scores
        if isinstance(policy, ARSPolicy):
            scores = policy.action_net(policy.extract_features(obs, policy.features_extractor))
            return th.argmax(scores, dim=1), scores
        distribution = policy.get_distribution(obs, **masks)
        return distribution.get_actions(deterministic=True), parameters(distribution)

    def _decide_with_memory(
        self, obs: Any, hidden: th.Tensor, cell: th.Tensor, start: th.Tensor
    ) -> tuple[th.Tensor, ...]:
        """One step of the LSTM, whose state is forgotten where an episode begins."""
        policy: Any = self.policy
        features = BaseModel.extract_features(policy, obs, policy.pi_features_extractor)
        kept = (1.0 - start).reshape(1, -1, 1)
        latent, states = lstm_step(policy.lstm_actor, features, hidden * kept, cell * kept)
        distribution = policy._get_action_dist_from_latent(policy.mlp_extractor.forward_actor(latent))
        action = distribution.get_actions(deterministic=True)
        return (action, parameters(distribution), *states) if self.gives_scores else (action, *states)

    def _in_the_environments_terms(self, action: th.Tensor) -> th.Tensor:
        shape = tuple(self.policy.action_space.shape or ())
        action = action.reshape(-1, *shape)
        if self.unsquashes:
            return self.low + (0.5 * (action + 1.0) * (self.high - self.low))
        return action.clamp(self.low, self.high) if self.clips else action


class Normalizer(nn.Module):
    """
    What a ``VecNormalize`` does to an observation, in double precision as there. See
    :class:`sb3_distill.agents.normalization.Normalizer` for stacks of frames.

    :param mean: running mean
    :param var: running variance
    :param clip: bound on what comes out
    :param epsilon: added to the variance
    :param n_frames: how many frames the last axis holds, each normalised alike
    """

    mean: th.Tensor
    std: th.Tensor

    def __init__(self, mean: np.ndarray, var: np.ndarray, clip: float, epsilon: float, n_frames: int) -> None:
        super().__init__()
        self.register_buffer("mean", th.as_tensor(np.asarray(mean, dtype=np.float64)))
        self.register_buffer("std", th.as_tensor(np.sqrt(np.asarray(var, dtype=np.float64) + epsilon)))
        self.clip = clip
        self.n_frames = n_frames

    def forward(self, values: th.Tensor) -> th.Tensor:
        """:param values: n observations"""
        if self.n_frames == 1:
            return self._normalize(values)
        frames = values.unflatten(-1, (self.n_frames, -1))
        axes = [*range(1, frames.dim() - 2), frames.dim() - 1]
        seen = (frames != 0).float().amax(dim=axes, keepdim=True)
        begun, all_begun = th.zeros_like(seen[..., :1, :]), []
        for k in range(self.n_frames):
            begun = th.maximum(begun, seen[..., k : k + 1, :])
            all_begun.append(begun)
        return (self._normalize(frames) * th.cat(all_begun, dim=-2)).flatten(-2)

    def _normalize(self, values: th.Tensor) -> th.Tensor:
        return ((values.double() - self.mean) / self.std).clamp(-self.clip, self.clip).float()


def lstm_step(
    lstm: nn.LSTM, features: th.Tensor, hidden: th.Tensor, cell: th.Tensor
) -> tuple[th.Tensor, tuple[th.Tensor, th.Tensor]]:
    """
    One step of ``torch.nn.LSTM``, in operations that every format has.

    :param lstm: of one direction, without a projection
    :param features: of n states
    :param hidden: shape (layers, n, hidden size)
    :param cell: likewise
    :return: what comes out of the last layer, and the new hidden and cell states
    """
    latent, hiddens, cells = features, [], []
    for layer in range(lstm.num_layers):
        weights: list[Any] = [
            getattr(lstm, f"{name}_l{layer}", None) for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
        ]
        gates = nn.functional.linear(latent, weights[0], weights[1]) + nn.functional.linear(
            hidden[layer], weights[2], weights[3]
        )
        i, f, g, o = gates.chunk(4, dim=-1)
        new = th.sigmoid(f) * cell[layer] + th.sigmoid(i) * th.tanh(g)
        latent = th.sigmoid(o) * th.tanh(new)
        hiddens.append(latent)
        cells.append(new)
    return latent, (th.stack(hiddens), th.stack(cells))


def observation_ports(space: spaces.Space) -> tuple[Port, ...]:
    """
    :param space: of the environment's observations
    :return: an input for each part: ``observation``, or the keys of a ``Dict`` in its own order
    """
    if not isinstance(space, spaces.Dict):
        return (Port(OBSERVATION, tuple(space.shape or ()), str(space.dtype)),)
    clash = any(key in RESERVED or not key for key in space.spaces)
    return tuple(
        Port(f"{OBSERVATION}.{key}" if clash else key, tuple(sub.shape or ()), str(sub.dtype), key)
        for key, sub in space.spaces.items()
    )


def is_channels_last(given: tuple[int, ...], seen: tuple[int, ...]) -> bool:
    """
    :param given: shape of an image as the environment has it
    :param seen: as the policy has it
    :return: whether the channels have to come first
    """
    return len(given) == 3 and given != seen and (given[2], *given[:2]) == seen


def n_scores(space: spaces.Space) -> int:
    """
    :param space: of actions, not a ``Box``
    :return: how many scores the greedy action is chosen by
    """
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    return int(space.nvec.sum()) if isinstance(space, spaces.MultiDiscrete) else get_action_dim(space)


def gives_scores(policy: BasePolicy) -> bool:
    """
    :param policy: any
    :return: whether what its greedy action is chosen by is known: not of a ``Box``, nor of a class that chooses in its own way
    """
    if isinstance(policy.action_space, spaces.Box):
        return False
    own = [type(policy)._predict]
    for name in ("q_net", "quantile_net"):
        if hasattr(policy, name):
            own.append(type(getattr(policy, name))._predict)
    sb3s = all(method.__module__.startswith(("stable_baselines3.", "sb3_contrib.")) for method in own)
    return sb3s and isinstance(
        policy, (DQNPolicy, QRDQNPolicy, ARSPolicy, ActorCriticPolicy, MaskableActorCriticPolicy)
    )


def _extra_inputs(policy: BasePolicy) -> tuple[Port, ...]:
    if isinstance(policy, RecurrentActorCriticPolicy):
        return (*_lstm_states(policy), Port(START, (), "float32"))
    if isinstance(policy, MaskableActorCriticPolicy):
        return (Port(MASKS, (n_masks(policy.action_space),), "bool"),)
    return ()


def n_masks(space: spaces.Space) -> int:
    """
    :param space: of MaskablePPO's actions
    :return: how many flags a mask has
    """
    return 2 * get_action_dim(space) if isinstance(space, spaces.MultiBinary) else n_scores(space)


def _lstm_states(policy: RecurrentActorCriticPolicy) -> list[Port]:
    layers, _, hidden = policy.lstm_hidden_state_shape
    return [Port(name, (layers, hidden), "float32", batch_axis=1) for name in STATES]


def _normalizer(statistics: NormalizeStatistics | None, port: Port) -> Normalizer | None:
    if statistics is None or statistics.obs_mean is None:
        return None
    means, variances = statistics.obs_mean, statistics.obs_var
    if isinstance(means, Mapping):
        if port.key not in means:
            return None
        means, variances = means[port.key], variances[port.key]
    width = means.shape[-1] if np.ndim(means) else 0
    n_frames = port.shape[-1] // width if width else 1
    return Normalizer(means, variances, statistics.clip_obs, statistics.epsilon, n_frames)


def _module_name(port: Port, ports: tuple[Port, ...]) -> str:
    """Modules cannot have all the names that keys can."""
    return f"part{ports.index(port)}"
