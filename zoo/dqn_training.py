"""Trains a DQN that may be killed at any moment: it goes on from its last checkpoint, and its best network is kept.

The folder of an unfinished training holds one checkpoint, ``step-N``, which appears complete or not at all. It consists of what
SB3 saves of a model and of a replay buffer, and these are pickles: continue only a training of your own.
"""

import io
import json
import os
import shutil
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import get_device, polyak_update
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.common.files import write_json
from sb3_distill.common.interrupts import Postponed
from sb3_distill.evaluation.episodes import episode_returns, greedy
from sb3_distill.students.pixels import fast_pixels
from sb3_distill.zoo.teacher_settings import TeacherSettings

#: makes environments: how many, and the seed of the first
MakeEnvs = Callable[[int, int], VecEnv]

#: from one checkpoint to the next: what a killed training loses at most. One that takes more than a twentieth of that, as of a large
#: replay buffer, is written as much less often
CHECKPOINT_SECONDS = 60.0
#: An episode of an evaluation is cut then. Games of Pong take 2,000 to 4,000, but where nothing is random a rally can repeat itself
#: until ALE ends it after 27,000.
MAX_EVALUATED_STEPS = 5_000
#: what a model carries that playing does not need, and that would make its zip larger or bound to a replay buffer
NOT_FILED = (
    "_last_obs",
    "_last_original_obs",
    "_last_episode_starts",
    "ep_info_buffer",
    "ep_success_buffer",
    "replay_buffer_class",
    "replay_buffer_kwargs",
)


class Evaluation(NamedTuple):
    """How a network played.

    :param timesteps: environment steps that it had learnt from
    :param returns: undiscounted, one for each episode
    """

    timesteps: int
    returns: np.ndarray


class Trained(NamedTuple):
    """What a training ends with.

    :param best: the model of the best evaluation
    :param evaluations: all of them, in order
    :param timesteps: environment steps
    :param seconds: of all parts of the training together, evaluations and checkpoints among them
    """

    best: DQN
    evaluations: list[Evaluation]
    timesteps: int
    seconds: float


def train_dqn(
    make_envs: MakeEnvs,
    settings: TeacherSettings,
    seed: int,
    folder: Path,
    progress_bar: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Trained:
    """
    Train, or continue.

    A training that is continued begins new episodes and draws other random numbers, so that it ends elsewhere than one that
    was never interrupted.

    :param make_envs: from how many and a seed to environments
    :param settings: how long, with which hyperparameters
    :param seed: of everything random
    :param folder: for checkpoints, made by :func:`open_folder`; it is left there
    :param progress_bar: whether to show one
    :param checkpoint_seconds: from one checkpoint to the next; 0 writes one for every rollout
    :return: the best model
    """
    hyperparameters = dict(settings.hyperparameters)
    policy = hyperparameters.pop("policy")
    env = make_envs(settings.n_envs, seed)
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        model = DQN(policy, env, seed=seed, device=settings.device, **hyperparameters)
    else:
        model = load_checkpoint(checkpoint, env, seed, hyperparameters, settings.device)
    keeper = Keeper(make_envs, seed + settings.n_envs, settings, folder, checkpoint_seconds)
    if checkpoint is not None:
        keeper.restore(checkpoint)
    try:
        with fast_pixels(model.policy), warnings.catch_warnings(), Postponed() as keeper.postponed:
            warnings.filterwarnings("ignore", "rich is experimental")  # SB3's progress bar
            model.learn(
                settings.n_timesteps - model.num_timesteps,
                callback=keeper,
                reset_num_timesteps=checkpoint is None,
                progress_bar=progress_bar,
            )
    finally:
        env.close()
    best = DQN.load(io.BytesIO(keeper.best), device="cpu", **_buffer_of(hyperparameters))
    return Trained(best, keeper.evaluations, model.num_timesteps, keeper.seconds)


class Keeper(BaseCallback):
    """
    Evaluates the network now and then, in the same games, keeps the best, and writes checkpoints.

    :param make_envs: from how many and a seed to environments
    :param seed: of the first game
    :param settings: when, and over how many episodes
    :param folder: for checkpoints
    :param checkpoint_seconds: from one checkpoint to the next
    """

    def __init__(
        self, make_envs: MakeEnvs, seed: int, settings: TeacherSettings, folder: Path, checkpoint_seconds: float
    ) -> None:
        super().__init__()
        self.make_envs, self.seed, self.settings = make_envs, seed, settings
        self.folder, self.checkpoint_seconds = folder, checkpoint_seconds
        self.evaluations: list[Evaluation] = []
        #: the zip of the model that played best
        self.best = b""
        #: of the weights, where they are averaged, up to so many environment steps
        self.mean: list[th.Tensor] = []
        self._counted = 0
        self._seconds_before, self._started = 0.0, time.monotonic()
        self._written = self._started
        self._wait = checkpoint_seconds
        #: a signal waits until what was learnt is in a checkpoint
        self.postponed = Postponed()

    @property
    def seconds(self) -> float:
        """Of the training so far, without those between its parts, and without what a kill has lost."""
        return self._seconds_before + time.monotonic() - self._started

    def _on_training_start(self) -> None:
        self._counted = self.num_timesteps

    def _on_rollout_start(self) -> None:
        # Here all transitions are in the replay buffer, and learnt from.
        self._count_weights()
        if self.postponed.asked:
            self.write()
            self.postponed.act_if_asked()
        began = time.monotonic()
        if began - self._written >= self._wait:
            self.write()
            self._written = time.monotonic()
            self._wait = self.checkpoint_seconds * max(1.0, (self._written - began) * 20 / CHECKPOINT_SECONDS)

    def _on_step(self) -> bool:
        last = self.evaluations[-1].timesteps if self.evaluations else 0
        if self.num_timesteps // self.settings.eval_every > last // self.settings.eval_every:
            try:
                with self.postponed.at_once():
                    self._evaluate()
            except KeyboardInterrupt:  # the evaluation, which comes again, is all that is lost
                self.write()
                raise
        enough = self.settings.stop_at
        return enough is None or all(e.returns.mean() < enough for e in self.evaluations)

    def _on_training_end(self) -> None:
        self._count_weights()
        if not self.evaluations or self.evaluations[-1].timesteps < self.num_timesteps:
            self._evaluate()

    def _weights(self) -> list[th.Tensor]:
        assert isinstance(self.model, DQN)
        return [weight.detach() for weight in self.model.q_net.parameters()]

    def _count_weights(self) -> None:
        """Move their mean to the present ones."""
        if self.settings.averaged_steps is None:
            return
        share = min(1.0, (self.num_timesteps - self._counted) / self.settings.averaged_steps)
        self._counted = self.num_timesteps
        self.mean = self.mean or [weight.clone() for weight in self._weights()]
        polyak_update(self._weights(), self.mean, share)

    @contextmanager
    def _mean_in_place(self) -> Iterator[None]:
        """A context in which the Q-network has the mean of its weights, where they are averaged."""
        weights = self._weights()
        last = [weight.clone() for weight in weights]
        for weight, mean in zip(weights, self.mean or last, strict=True):
            weight.copy_(mean)
        try:
            yield
        finally:
            for weight, kept in zip(weights, last, strict=True):
                weight.copy_(kept)

    def _evaluate(self) -> None:
        with self._mean_in_place():
            returns = episode_returns(
                greedy(self.model.predict),
                lambda n: self.make_envs(n, self.seed),
                self.settings.n_eval_episodes,
                self.seed,
                MAX_EVALUATED_STEPS,
            )
            self.evaluations.append(Evaluation(self.num_timesteps, returns))
            if np.mean(returns) > max((e.returns.mean() for e in self.evaluations[:-1]), default=-np.inf):
                buffer = io.BytesIO()
                self.model.save(buffer)
                self.best = buffer.getvalue()

    def write(self) -> None:
        """Write a checkpoint, and then remove the one before it."""
        assert isinstance(self.model, DQN)
        before, path = latest_checkpoint(self.folder), self.folder / f"step-{self.model.num_timesteps}"
        if before == path:  # that a continued training has just come from
            return
        new = self.folder / "unfinished"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        self.model.save(new / "model.zip")
        self.model.save_replay_buffer(new / "replay_buffer.pkl")
        (new / "best.zip").write_bytes(self.best)
        th.save(self.mean, new / "mean.pt")
        np.savez(
            new / "evaluations.npz",
            timesteps=np.array([e.timesteps for e in self.evaluations], dtype=np.int64),
            results=np.array([e.returns for e in self.evaluations]),
            seconds=self.seconds,
        )
        os.replace(new, path)
        if before is not None:
            shutil.rmtree(before)

    def restore(self, checkpoint: Path) -> None:
        """
        Take up what a killed training knew.

        :param checkpoint: that :meth:`write` wrote
        """
        self.best = (checkpoint / "best.zip").read_bytes()
        self.mean = th.load(checkpoint / "mean.pt", map_location=get_device(self.settings.device))
        with np.load(checkpoint / "evaluations.npz") as saved:
            self._seconds_before = float(saved["seconds"])
            self.evaluations = [
                Evaluation(int(t), r) for t, r in zip(saved["timesteps"], saved["results"], strict=True)
            ]


def open_folder(folder: Path, identity: Mapping[str, Any]) -> Path | None:
    """
    Make or check the folder of an unfinished training.

    :param folder: where its checkpoints go
    :param identity: what makes it this training and no other, for JSON
    :return: the checkpoint to go on from, if any
    :raises ValueError: if another training was begun there
    """
    path, checkpoint = folder / "training.json", latest_checkpoint(folder)
    if checkpoint is not None:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != identity:
            raise ValueError(
                f"{folder} holds an unfinished training with {_listed(found)}, not {_listed(identity)}: "
                "continue that one, or remove the folder."
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, identity)
    return checkpoint


def _listed(identity: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in identity.items())


def latest_checkpoint(folder: Path) -> Path | None:
    """
    :param folder: of an unfinished training
    :return: its newest checkpoint: two are there if it was killed before the old one was gone
    """
    return max(folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")), default=None)


def load_checkpoint(checkpoint: Path, env: VecEnv, seed: int, hyperparameters: Mapping[str, Any], device: str) -> DQN:
    """
    :param checkpoint: that :meth:`Keeper.write` wrote
    :param env: where training goes on
    :param seed: of the whole training
    :param hyperparameters: as the model was made with them
    :param device: of the network
    :return: the model with its replay buffer
    """
    model = DQN.load(checkpoint / "model.zip", env=env, device=device, **_buffer_of(hyperparameters))
    model.load_replay_buffer(checkpoint / "replay_buffer.pkl")
    assert model.replay_buffer is not None
    cut_episodes(model.replay_buffer)
    # Not the seed itself: the training would meet the same first episodes again.
    model.set_random_seed(seed + model.num_timesteps)
    return model


def _buffer_of(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """The replay buffer as it was asked for. SB3 saves what it made of that, and warns of it when it loads it."""
    return {
        "replay_buffer_class": hyperparameters.get("replay_buffer_class"),
        "replay_buffer_kwargs": dict(hyperparameters.get("replay_buffer_kwargs") or {}),
    }


def cut_episodes(buffer: ReplayBuffer) -> None:
    """
    Record that the environments were left behind in the middle of their episodes, as a time limit would have done: what comes
    next in the buffer is the beginning of others, which no n-step return may reach into.

    :param buffer: changed in place; ended episodes stay as they ended
    """
    if not buffer.full and buffer.pos == 0:
        return
    last = buffer.pos - 1
    buffer.timeouts[last] = np.where(buffer.dones[last], buffer.timeouts[last], 1)
    buffer.dones[last] = 1


def save_to_play(model: DQN, path: Path) -> None:
    """
    Write what plays and nothing that only training needs, in a zip that SB3's ``DQN.load`` takes.

    :param model: whose optimiser and target network are forgotten
    :param path: of the zip
    """
    policy = model.policy
    # The target network becomes the network itself: torch writes shared weights once.
    policy.q_net_target = policy.q_net
    policy.optimizer = policy.optimizer_class(  # type: ignore[call-arg]
        policy.q_net.parameters(), lr=model.lr_schedule(1), **policy.optimizer_kwargs
    )
    buffer = io.BytesIO()
    model.save(buffer, exclude=NOT_FILED)
    with zipfile.ZipFile(buffer) as saved, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in saved.namelist():  # SB3 compresses nothing
            archive.writestr(name, saved.read(name))
