"""Film a teacher and its student side by side, in the same episodes: ``python docs/make_film.py``.

LunarLander's teacher is the RL Zoo's: clone https://github.com/DLR-RM/rl-trained-agents and set RL_TRAINED_AGENTS to it, or
give ``--env CartPole-v1`` for the agent that comes with the package.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_distill import NDistill, load_teacher
from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns, greedy, standard_error

HERE = Path(__file__).parent
PICTURE = (320, 214)
CAPTION, GAP = 50, 8
#: one of so many steps is a picture; at 50 steps a second that is twice as fast as the game
EVERY, SECONDS_A_PICTURE = 5, 0.05
COLORS = 48


class Player(NamedTuple):
    """Somebody who plays.

    :param name: teacher or student
    :param act: from a batch of observations to actions
    :param parameters: how many pick the actions
    """

    name: str
    act: Callable[[Any], np.ndarray]
    parameters: int


def main() -> None:
    """Train the student, or load it, and write the film."""
    parser = argparse.ArgumentParser(description="Film a teacher and its student side by side.")
    parser.add_argument("--env", default="LunarLander-v3", help="Gymnasium id (default: %(default)s)")
    parser.add_argument("--teacher", help="for load_teacher (default: zoo:dqn/ENV)")
    parser.add_argument("--student", help="a zip that this command has saved, in place of training one")
    parser.add_argument("--steps", default=65_536, type=int, help="of the student's training (default: %(default)s)")
    parser.add_argument("--net-arch", default=[64, 64], type=int, nargs="*", help="of the student (default: 64 64)")
    parser.add_argument("--seed", default=0, type=int, help="of the training (default: %(default)s)")
    parser.add_argument("--episodes", default=[0, 5], type=int, nargs="+", help="of a comparison's 100 (default: 0 5)")
    parser.add_argument("--out", default=HERE / "images" / "film.gif", type=Path, help="(default: %(default)s)")
    args = parser.parse_args()

    teacher = load_teacher(args.teacher or f"zoo:dqn/{args.env}")
    if args.student:
        student = PPO.load(args.student, device="cpu")
    else:
        env = make_vec_env(args.env, n_envs=8, seed=args.seed)
        kwargs = {"policy_kwargs": {"net_arch": args.net_arch}, "seed": args.seed, "device": "cpu"}
        distilled = NDistill("MlpPolicy", env, teacher=teacher, **kwargs)
        distilled.learn(args.steps, progress_bar=True)
        distilled.save(args.out.with_suffix(".zip"))
        student = PPO.load(args.out.with_suffix(".zip"), device="cpu")
    players = (
        Player("teacher", teacher.act, teacher.n_parameters),
        Player("student", greedy(student.predict), sum(p.numel() for p in actor(student))),
    )
    captions = [caption(player, args.env) for player in players]
    frames = [frame for k in args.episodes for frame in episode(players, captions, args.env, EVALUATION_SEED + k)]
    write(args.out, frames)
    print(f"{args.out}: {len(frames)} pictures, {args.out.stat().st_size / 1e6:.2f} MB; " + "; ".join(captions))


def actor(model: PPO) -> Iterator[Any]:
    """
    :param model: with a multilayer perceptron
    :return: what picks its actions
    """
    yield from model.policy.mlp_extractor.policy_net.parameters()
    yield from model.policy.action_net.parameters()


def caption(player: Player, env_id: str) -> str:
    """
    :param player: plays the 100 episodes of every comparison
    :param env_id: Gymnasium's
    :return: who that is, how large, and how good
    """
    returns = episode_returns(player.act, env_id, 100, EVALUATION_SEED)
    score = f"{returns.mean():.0f} ± {standard_error(returns):.0f}"
    return f"{player.name}: {player.parameters:,} parameters\nreturn of 100 episodes: {score}"


def episode(players: tuple[Player, ...], captions: list[str], env_id: str, seed: int) -> Iterator[Image.Image]:
    """
    :param players: side by side; who is done waits for the others
    :param captions: beneath them
    :param env_id: Gymnasium's
    :param seed: of the episode, the same for all
    :return: pictures, the last one for a second
    """
    runs = [list(pictures(player, env_id, seed)) for player in players]
    frame = None
    for row in zip_longest(*runs):
        shown = [run[-1] if picture is None else picture for picture, run in zip(row, runs, strict=True)]
        yield (frame := side_by_side(shown, captions))
    yield from [frame] * 20 if frame else []


def pictures(player: Player, env_id: str, seed: int) -> Iterator[tuple[Image.Image, float]]:
    """
    :param player: plays greedily
    :param env_id: Gymnasium's
    :param seed: of the episode
    :return: pictures with the return so far
    """
    env = gym.make(env_id, render_mode="rgb_array")
    obs, _ = env.reset(seed=seed)
    total, step, done = 0.0, 0, False
    while not done:
        if step % EVERY == 0:
            yield Image.fromarray(env.render()).resize(PICTURE, Image.Resampling.LANCZOS), total
        obs, reward, terminated, truncated, _ = env.step(player.act(obs[None])[0])
        total, step, done = total + float(reward), step + 1, terminated or truncated
    yield Image.fromarray(env.render()).resize(PICTURE, Image.Resampling.LANCZOS), total
    env.close()


def side_by_side(shown: list[tuple[Image.Image, float]], captions: list[str]) -> Image.Image:
    """
    :param shown: pictures with the returns so far
    :param captions: beneath them
    :return: one picture
    """
    width, height = PICTURE
    frame = Image.new("RGB", (len(shown) * (width + GAP) - GAP, height + CAPTION), "#16181d")
    draw = ImageDraw.Draw(frame)
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 13)
    for k, ((picture, total), text) in enumerate(zip(shown, captions, strict=True)):
        left = k * (width + GAP)
        frame.paste(picture, (left, 0))
        draw.text((left + 10, height + 8), text, fill="#f2f2f2", font=font, spacing=4)
        draw.text((left + width - 10, 8), f"{total:,.0f}".replace("-", "−"), fill="#f2f2f2", font=font, anchor="ra")
    return frame


def write(path: Path, frames: list[Image.Image]) -> None:
    """
    :param path: of a GIF
    :param frames: with one palette for all
    """
    palette = frames[len(frames) // 4].quantize(COLORS)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(path, save_all=True, append_images=others, duration=1000 * SECONDS_A_PICTURE, loop=0, optimize=True)


if __name__ == "__main__":
    main()
