"""For the first rollouts of reinforcement learning the critic learns alone, and the policy stands still."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from numbers import Real
from typing import Any

import torch as th
from sb3_contrib import TRPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import nn

from sb3_distill.algorithms.around_train import AroundTrain
from sb3_distill.common.replaced import replaced
from sb3_distill.common.whole_numbers import check_whole


class CriticWarmup(AroundTrain):
    """
    For the first rollouts of a call of ``learn`` only the critic learns: whatever the policy's actions depend on (a features extractor
    or hidden layers that the critic shares too) stands still to the bit, and so does what the optimiser knows of it.
    Afterwards SB3's own training goes on as if nothing had been.

    A policy that was cloned or distilled comes with a critic that has learnt nothing, or something else, and the first advantages
    would be noise. It serves PPO, A2C and sb3-contrib's TRPO, MaskablePPO and RecurrentPPO as they are:
    ``model.learn(100_000, callback=CriticWarmup(4))``.

    :param n_rollouts: how many, at least 0
    :param learning_rate: of the critic meanwhile, a number above 0; by default the algorithm's own
    :raises ValueError: for other numbers; at ``learn``, for an algorithm whose critic has no weight (``vf_coef=0``), or that has none
    """

    def __init__(self, n_rollouts: int, learning_rate: float | None = None) -> None:
        super().__init__()
        check_whole("n_rollouts", n_rollouts, 0)
        if learning_rate is not None and not (isinstance(learning_rate, Real) and 0 < learning_rate < float("inf")):
            raise ValueError(
                f"learning_rate must be greater than 0, or None for the algorithm's, not {learning_rate!r}."
            )
        self.n_rollouts = n_rollouts
        self.learning_rate = learning_rate
        #: rollouts of this run so far
        self.n_done = 0

    def _init_callback(self) -> None:
        if not isinstance(self.model, OnPolicyAlgorithm):
            raise ValueError(
                f"CriticWarmup is for on-policy algorithms, and {type(self.model).__name__} is none: leave it out."
            )
        if self.n_rollouts > 0 and self.model.vf_coef == 0 and not isinstance(self.model, TRPO):
            raise ValueError(
                f"With vf_coef=0 the critic of this {type(self.model).__name__} learns nothing, warmed up or not: set vf_coef=0.5."
            )

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self.n_done = 0

    def _on_training_end(self) -> None:
        if 0 < self.n_done <= self.n_rollouts:
            warnings.warn(
                f"The critic alone has learnt in all {self.n_done} rollouts so far, and the policy is what it was: CriticWarmup has "
                f"{self.n_rollouts} of them. Learn for longer, or give it fewer.",
                stacklevel=2,
            )

    def around(self) -> AbstractContextManager[None] | None:
        self.n_done += 1
        if self.n_done > self.n_rollouts:
            return None
        self.logger.record("train/critic_alone", True)
        return critic_alone(self.model, self.learning_rate)  # type: ignore[arg-type]


@contextmanager
def critic_alone(model: OnPolicyAlgorithm, learning_rate: float | None = None) -> Iterator[None]:
    """
    A context in which ``model.train()`` changes what the critic alone depends on, and nothing else of its policy.

    :param model: of SB3 or sb3-contrib
    :param learning_rate: meanwhile; by default the model's own
    """
    with ExitStack() as stack:
        if learning_rate is not None:
            stack.enter_context(replaced(model, "lr_schedule", lambda _: learning_rate))
        if isinstance(model, TRPO):
            # Its step, of a length that is proportional to √target_kl, is taken back; its critic leaves alone what it shares.
            target_kl, model.target_kl = model.target_kl, 0.0
            stack.callback(setattr, model, "target_kl", target_kl)
            keep = partial(_keep_buffers, model.policy, _buffers(model.policy), stack, model._compute_actor_grad)
            stack.enter_context(replaced(model, "_compute_actor_grad", keep))
        else:
            evaluate = _Frozen(model.policy, stack)
            stack.enter_context(replaced(model.policy, "evaluate_actions", evaluate))
        yield


class _Frozen:
    """``policy.evaluate_actions`` that freezes, at its first call, what the actions depend on."""

    def __init__(self, policy: Any, stack: ExitStack) -> None:
        self._policy, self._stack = policy, stack
        self._evaluate: Callable[..., Any] = policy.evaluate_actions
        self._is_frozen = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._is_frozen:
            self._freeze(*args, **kwargs)
            self._is_frozen = True
        return self._evaluate(*args, **kwargs)

    def _freeze(self, *args: Any, **kwargs: Any) -> None:
        policy = self._policy
        buffers = _buffers(policy)
        _, log_prob, entropy = self._evaluate(*args, **kwargs)
        total = log_prob.sum() if entropy is None else log_prob.sum() + entropy.sum()
        learning = [p for p in policy.parameters() if p.requires_grad]
        grads = th.autograd.grad(total, learning, allow_unused=True)
        acting = [p for p, grad in zip(learning, grads, strict=True) if grad is not None]
        if len(acting) == len(learning):
            raise ValueError(
                f"The critic of this {type(policy).__name__} has no parameters of its own, so it cannot learn alone: leave "
                "CriticWarmup out."
            )
        for p in acting:
            p.requires_grad_(False)
        self._stack.callback(_thaw, acting)
        self._stack.callback(_restore, policy, buffers, acting)


def _thaw(parameters: list[nn.Parameter]) -> None:
    for p in parameters:
        p.requires_grad_(True)


def _buffers(policy: nn.Module) -> dict[str, th.Tensor]:
    return {name: buffer.clone() for name, buffer in policy.named_buffers()}


def _keep_buffers(
    policy: nn.Module, buffers: dict[str, th.Tensor], stack: ExitStack, compute: Callable[..., Any], *args: Any
) -> Any:
    """TRPO's gradient, in whose course it is known what of the policy acts."""
    found = compute(*args)
    stack.callback(_restore, policy, buffers, found[0])
    return found


def _restore(policy: nn.Module, buffers: dict[str, th.Tensor], acting: list[nn.Parameter]) -> None:
    """Statistics of layers, as of batch normalisation, but of those that are the critic's own."""
    frozen = {id(p) for p in acting}
    for prefix, module in policy.named_modules():
        own = {id(p) for p in module.parameters(recurse=False)}
        if own and not own & frozen:
            continue
        for name, buffer in module.named_buffers(prefix, recurse=False):
            buffer.copy_(buffers[name])
