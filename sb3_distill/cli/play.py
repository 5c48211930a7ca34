"""``sb3-distill play``: an agent plays, and nothing in its files is run.

Whatever ``load_teacher`` finds can play: what ``distill`` or rl_zoo3 wrote, a zip of SB3, a download. Its checkpoint is read and not
unpickled, and the text of its settings is parsed and not evaluated. An environment is imported from where the user says, never from
where a file says.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sb3_distill.cli.arguments import add_environment, number, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from stable_baselines3.common.vec_env import VecEnv

    from sb3_distill.agents.training import Training
    from sb3_distill.teachers.teacher import Teacher

#: what a film may be
FORMATS = (".mp4", ".gif", ".webm", ".mkv", ".mov", ".avi")
#: an environment without a time limit must not play for good; the longest game of Atari's has 27,000
MAX_EPISODE_STEPS = 30_000
#: frames of a second, where the environment does not say it
FRAMES = 30


def add_command(commands: Any) -> None:
    """
    :param commands: the subparsers of ``sb3-distill``
    """
    parser = commands.add_parser(
        "play",
        help="watch an agent play, or film it",
        description="Let an agent play, and say its return. Nothing in its files is unpickled or evaluated, so downloads are safe.",
    )
    parser.set_defaults(prepare=prepare)
    add = parser.add_argument
    add(
        "agent",
        metavar="AGENT",
        help="what 'distill' wrote, an SB3 zip, a folder of the RL Zoo, zoo:ALGO/ENV, hub:OWNER/NAME, or MODULE:NAME of a function",
    )
    add_environment(add, "where the agent was trained")
    add(
        "--noise",
        default=0.0,
        type=number,
        metavar="SHARE",
        help="the share of its actions that is uniform, if they are discrete, between 0 and 1 (default: 0)",
    )
    add("--episodes", default=10, type=whole(1), metavar="N", help="to play (default: %(default)s)")
    add(
        "--seed",
        default=0,
        type=whole(0),
        metavar="N",
        help="of the first episode, others follow (default: %(default)s)",
    )
    add(
        "--stochastic",
        action="store_true",
        help="draw actions from the agent's policy (default: the most probable ones)",
    )
    add("--video", metavar="FILE", help=f"film the first episode: {', '.join(FORMATS)}")
    add("--render", choices=["human"], metavar="human", help="show a window (default: none)")
    add(
        "--max-steps",
        default=MAX_EPISODE_STEPS,
        type=whole(1),
        metavar="N",
        help="an episode that has not ended by then is cut (default: %(default)s)",
    )
    add(
        "--device", default="auto", metavar="NAME", help="where the agent computes: cpu, cuda, … (default: %(default)s)"
    )
    add("--quiet", action="store_true", help="show no progress")
    add("--json", action="store_true", help="say the returns for programs")


class Show(NamedTuple):
    """What is played.

    :param teacher: who plays
    :param trained: where
    :param env: one environment, as the agent reads it
    :param args: see ``sb3-distill play --help``
    """

    teacher: "Teacher"
    trained: "Training"
    env: "VecEnv"
    args: argparse.Namespace


def prepare(args: argparse.Namespace) -> Callable[[], None]:
    """
    :param args: see ``sb3-distill play --help``
    :return: plays
    :raises ValueError: for what does not exist or does not go together; also OSError and ImportError
    """
    from sb3_distill.agents.find import find_agent
    from sb3_distill.agents.training_envs import training_of
    from sb3_distill.agents.tuned_teacher import load_teacher_for
    from sb3_distill.cli.teacher_names import typed_teacher
    from sb3_distill.cli.train_teacher import check_device
    from sb3_distill.common.phases import phase
    from sb3_distill.teachers.teacher import as_teacher_reads

    args.agent = typed_teacher(args.agent)
    check_film(args)
    check_device(args.device)
    with phase(f"Loading {args.agent}", args.quiet):
        agent = find_agent(args.agent)
        trained = training_of(agent, args.agent, args.env, args.env_kwargs)
        # A Q-network's most probable action is its largest value at every temperature.
        teacher = load_teacher_for(
            args.agent, trained.env_id, trained.make_vec_env, device=args.device, tune=args.stochastic, noise=args.noise
        )
        if teacher.n_envs is not None:
            raise ValueError(
                f"{teacher.name} plays in {teacher.n_envs} environments side by side, and 'play' in one: play one of its teachers, or "
                "from Python episode_returns(teacher, env)."
            )
        trained = training_of(agent, args.agent, args.env, {**args.env_kwargs, **rendering(args)})
        env = trained.make_vec_env(1)
        check_drawing(env, args, str(trained.env_id))
        env = teacher.view(as_teacher_reads(teacher, env))
    return partial(play_and_tell, Show(teacher, trained, env, args))


def check_film(args: argparse.Namespace) -> None:
    """
    :param args: of ``play``
    :raises ValueError: for a film that cannot be, a window that there is no screen for, or both at once
    :raises ImportError: for a film without imageio
    :raises OSError: for one that cannot be written there
    """
    if args.render == "human":
        if args.video:
            raise ValueError("--video and --render human draw in different ways: leave one of them out.")
        if not has_screen():
            raise ValueError(
                "--render human needs a screen, and neither DISPLAY nor WAYLAND_DISPLAY is set here: write a film with --video FILE."
            )
    if args.video is None:
        return
    if not has_screen():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws in memory, and need not look for a screen
    path = Path(args.video).expanduser()
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"--video {args.video} has no known suffix: choose one of {', '.join(FORMATS)}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--video {args.video}: there is no folder {path.parent}.")
    try:
        import imageio_ffmpeg  # noqa: F401
        from imageio import v2  # noqa: F401
    except ImportError as error:
        raise ImportError("--video needs imageio: pip install 'sb3-distill[video]'.") from error
    from sb3_distill.cli.film import check_writable

    check_writable(path, f"--video {args.video}")


def check_drawing(env: "VecEnv", args: argparse.Namespace, env_id: str) -> None:
    """
    :param env: one environment
    :param args: of ``play``
    :param env_id: for the message
    :raises ValueError: if it cannot be seen as it shall be, by what it says
    """
    modes = (env.get_attr("metadata")[0] or {}).get("render_modes") or []
    wanted = {"rgb_array"} if args.video else {"human", "rgb_array"}  # Gymnasium shows what an environment draws
    if (args.video or args.render) and not wanted & set(modes):
        said = f"it draws {', '.join(map(repr, modes))}" if modes else "it draws nothing"
        raise ValueError(f"{env_id} cannot be filmed or shown: {said}, by the render_modes of its metadata.")


def has_screen() -> bool:
    """
    :return: whether a window could be shown, as far as can be known
    """
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def rendering(args: argparse.Namespace) -> Mapping[str, Any]:
    """
    :param args: of ``play``
    :return: the argument of the environment that lets it be seen, if it shall be
    """
    if args.video:
        return {"render_mode": "rgb_array"}
    return {"render_mode": "human"} if args.render == "human" else {}


def play_and_tell(show: Show) -> None:
    """
    :param show: to be played; its environment is closed in the end
    :raises ValueError: if the environment draws no pictures for the film
    """
    import numpy as np

    from sb3_distill.common.phases import phase
    from sb3_distill.evaluation.scores import Score, score

    args = show.args
    with phase(f"Playing {args.episodes} episodes in {show.trained.env_id}", args.quiet):
        played = np.array(play(show))
    returns, steps = played[:, 0], played[:, 1].astype(int)
    mark = score(returns) if len(returns) > 1 else Score(float(returns[0]), float("nan"), 1)
    cut = int((steps >= args.max_steps).sum())
    if cut:
        sys.stderr.write(
            f"sb3-distill: warning: {cut} of {len(steps)} episodes took all of --max-steps {args.max_steps}.\n"
        )
    if args.json:
        about = {
            "agent": show.teacher.name,
            "env": show.trained.env_id,
            "env_kwargs": json.loads(json.dumps(dict(show.trained.env_kwargs), default=str)),
            "stochastic": args.stochastic,
            "seed": args.seed,
            "mean_return": mark.mean,
            "standard_error": mark.standard_error if len(returns) > 1 else None,
            "returns": returns.tolist(),
            "steps": steps.tolist(),
            "video": args.video,
        }
        sys.stdout.write(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
        return
    said = (
        f"{mark.mean:,.1f} in one episode"
        if len(returns) == 1
        else f"{mark}, mean ± standard error of {mark.n_episodes} episodes"
    )
    how = "actions drawn from its policy" if args.stochastic else "its most probable actions"
    sys.stdout.write(
        f"{show.teacher.name} in {show.trained.env_id}, {how}:\nreturn {said}, {steps.mean():,.0f} steps each\n"
    )
    if args.video:
        sys.stdout.write(f"The first episode is in {args.video}\n")


def play(show: Show) -> "list[tuple[float, int]]":
    """
    :param show: to be played, an episode after the other, in one environment
    :return: return and steps of each episode
    """
    import torch as th

    from sb3_distill.common.observations import check_finite
    from sb3_distill.evaluation.episodes import Heeding, episode_returns

    args = show.args
    th.manual_seed(args.seed)
    played = []
    try:
        for k in range(args.episodes):
            with ExitStack() as stack:
                film = stack.enter_context(filming(args.video, show.env)) if args.video and k == 0 else None
                steps = 0

                def act(
                    obs: Any,
                    masks: "np.ndarray | None" = None,
                    film: "Callable[[], None] | None" = film,
                    k: int = k,
                ) -> "np.ndarray":
                    nonlocal steps
                    check_finite(obs, f"after step {steps} of episode {k + 1}")
                    steps += 1
                    if film is not None:
                        film()
                    return actions(show.teacher, obs, args.stochastic, masks)

                player = Heeding(act)
                (total,) = episode_returns(player, lambda n: left_open(show.env), 1, args.seed + k, args.max_steps)
            played.append((float(total), steps))
    finally:
        show.env.close()
    return played


def actions(teacher: "Teacher", obs: Any, stochastic: bool, masks: "np.ndarray | None" = None) -> "np.ndarray":
    """
    :param teacher: who plays
    :param obs: n observations as the environment gives them
    :param stochastic: whether actions are drawn
    :param masks: of the actions that the environment allows, if it says so
    :return: n actions
    """
    from sb3_distill.common.spaces import env_actions
    from sb3_distill.teachers.teacher import masks_if_any

    if not stochastic:
        return teacher.act(obs, **masks_if_any(masks))
    return env_actions(teacher.action_space, teacher.distribution(obs, masks).sample())


@contextmanager
def filming(file: str, env: "VecEnv") -> "Iterator[Callable[[], None]]":
    """
    Write a film, frame by frame, so that its length does not matter.

    :param file: where it goes; it is there when it is complete
    :param env: one environment
    :return: takes a picture of the environment
    :raises ValueError: if the environment draws none
    :raises OSError: if the film cannot be written whole
    """
    from sb3_distill.cli.film import film_writer

    rate = env.get_attr("metadata")[0].get("render_fps") or FRAMES
    with film_writer(Path(file).expanduser(), rate, f"--video {file}") as take:
        yield lambda: take(picture(env))


def picture(env: "VecEnv") -> "np.ndarray":
    """
    :param env: one environment
    :return: what it looks like now, shape (height, width, 3)
    :raises ValueError: if it draws nothing
    """
    import numpy as np

    frame = env.get_images()[0]
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        kind = f"{type(frame).__name__}{'' if frame is None else f' of shape {np.shape(frame)}'}"
        raise ValueError(
            f"The environment cannot be filmed: with render_mode='rgb_array' it draws {kind}, and no picture."
        )
    return frame


def left_open(env: "VecEnv") -> "VecEnv":
    """
    :param env: that goes on being used
    :return: the same, which :func:`~sb3_distill.evaluation.episodes.episode_returns` does not close
    """
    from stable_baselines3.common.vec_env import VecEnvWrapper

    class LeftOpen(VecEnvWrapper):
        def reset(self) -> Any:
            return self.venv.reset()

        def step_wait(self) -> Any:
            return self.venv.step_wait()

        def close(self) -> None:
            pass

    return LeftOpen(env)
