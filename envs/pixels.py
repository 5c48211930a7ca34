"""Small pictures of any environment that draws itself, beside the state that it shows: a student sees the one, its teacher reads the other.

.. code-block:: text

    environment, render_mode="rgb_array" ── PixelObservation ── Dict(state, pixels) ──┬── pixels ── VecFrameStack(4) ── student
                                                                                       └── state ──────────────────── teacher

Each state is drawn once. A picture that has the size already, as that of an environment which draws itself small, is taken as it is; others
are shrunk by a mean of what each new pixel covers, so that a thin pole is thin and does not vanish.
"""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from PIL import Image
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

from sb3_distill.common.whole_numbers import check_whole
from sb3_distill.envs.parts import VecParts

#: keys of what a :class:`PixelObservation` shows
STATE, PIXELS = "state", "pixels"
#: pixels of a side; SB3's NatureCNN reads at least SMALLEST
SIZE, SMALLEST, LARGEST = 84, 36, 4_096
#: pictures that a student sees at once: one alone shows no velocities
FRAMES = 4


class PixelObservation(gym.Wrapper):
    """
    Shows a picture of the environment beside what it shows: ``Dict(state=…, pixels=…)``, or, around a Dict, its keys and ``pixels``.

    :param env: made with ``render_mode="rgb_array"``
    :param size: of the picture, in pixels of a side
    :param rgb: whether it has three colours, and not a single grey
    :param inverted: whether white is black, as networks may learn more from where most of a picture is white
    :raises ValueError: for an environment that draws no pictures or shows ``pixels`` already; in a step, for what is drawn and is none
    """

    def __init__(self, env: gym.Env, size: int = SIZE, rgb: bool = False, inverted: bool = False) -> None:
        super().__init__(env)
        check_size(size)
        for name, value in (("rgb", rgb), ("inverted", inverted)):
            if not isinstance(value, bool):
                raise ValueError(f"{name} must be True or False, not {value!r}.")
        check_draws(env)
        shown = env.observation_space
        if isinstance(shown, spaces.Dict) and PIXELS in shown.spaces:
            raise ValueError(
                f"The environment shows {PIXELS!r} already, {shown[PIXELS]}: a student can be given that key of its Dict as it is."
            )
        self.size, self.rgb, self.inverted = size, rgb, inverted
        picture = spaces.Box(0, 255, (size, size, 3 if rgb else 1), np.uint8)
        parts = dict(shown.spaces) if isinstance(shown, spaces.Dict) else {STATE: shown}
        self.observation_space = spaces.Dict({**parts, PIXELS: picture})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        return self._with_picture(obs), info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self._with_picture(obs), reward, terminated, truncated, info

    def _with_picture(self, obs: Any) -> dict[str, Any]:
        parts = obs if isinstance(self.env.observation_space, spaces.Dict) else {STATE: obs}
        picture = shrunk(self.env.render(), self.size, self.rgb)
        if self.inverted:
            np.subtract(255, picture, out=picture)
        return {**parts, PIXELS: picture}


def shrunk(picture: Any, size: int, rgb: bool) -> np.ndarray:
    """
    :param picture: uint8, shape (height, width), (height, width, 1), (height, width, 3) or, with an alpha that is ignored, (…, 4)
    :param size: pixels of a side
    :param rgb: whether three colours are wanted, and not a grey
    :return: uint8, shape (size, size, 3 or 1), each pixel a mean of what it covers; in memory of its own
    :raises ValueError: for what is no such picture
    """
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or not _is_picture(picture.shape):
        about = (
            f"{picture.dtype} of shape {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        )
        raise ValueError(
            f"The environment draws {about}, and a picture is uint8 of shape (height, width) or (height, width, 3): mend its render()."
        )
    if picture.ndim == 3:
        picture = picture[..., 0] if picture.shape[2] == 1 else picture[..., :3]
    if picture.shape[:2] == (size, size) and (picture.ndim == 2) is not rgb:
        return np.array(picture).reshape(size, size, 3 if rgb else 1)
    image = Image.fromarray(np.ascontiguousarray(picture))
    mode = "RGB" if rgb else "L"
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != (size, size):
        # Of whole numbers of pixels, or of parts of one, the plain mean; else a weighted one, in which what moves does not flicker.
        even = all(side % size == 0 or side <= size for side in image.size)
        image = image.resize((size, size), Image.Resampling.BOX if even else Image.Resampling.BILINEAR)
    return np.array(image).reshape(size, size, 3 if rgb else 1)


def _is_picture(shape: tuple[int, ...]) -> bool:
    return min(shape, default=0) > 0 and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)))


def check_size(size: Any) -> None:
    """
    :param size: of a picture
    :raises ValueError: if it is none, or SB3's network for images could not read it
    """
    check_whole("size", size, SMALLEST)
    if size > LARGEST:
        raise ValueError(f"size={size} is more than {LARGEST} pixels of a side.")


def check_draws(env: gym.Env) -> None:
    """
    :param env: that is to draw pictures
    :raises ValueError: if it does not, with what it can draw
    """
    mode = env.render_mode
    if mode == "rgb_array":
        return
    modes = render_modes(env)
    name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    if "rgb_array" in modes:
        raise ValueError(
            f"{name} was made with render_mode={mode!r}, and pictures are drawn with render_mode='rgb_array': make it with that."
        )
    said = f"its render_modes are {', '.join(map(repr, modes))}" if modes else "it has no render_modes in its metadata"
    raise ValueError(f"{name} draws no pictures: {said}, and 'rgb_array' is needed.")


def render_modes(env: gym.Env) -> list[str]:
    """
    :param env: any environment
    :return: what its metadata says that it draws
    """
    return [str(mode) for mode in (env.metadata or {}).get("render_modes") or []]


def make_pixel_vec_env(
    env_id: str | Callable[..., gym.Env],
    n_envs: int = 1,
    seed: int | None = None,
    *,
    size: int = SIZE,
    rgb: bool = False,
    inverted: bool = False,
    frames: int = FRAMES,
    env_kwargs: Mapping[str, Any] | None = None,
    vec_env_cls: Any = None,
) -> VecEnv:
    """
    Environments that a student sees in pictures, and whose state its teacher reads with ``teacher_obs="state"``.

    >>> from sb3_distill.envs import make_pixel_vec_env
    >>> make_pixel_vec_env("CartPole-v1", n_envs=2, size=42).observation_space
    Box(0, 255, (42, 42, 4), uint8)

    :param env_id: a Gymnasium id, or a function that makes an environment and takes ``render_mode``
    :param n_envs: how many
    :param seed: of the first
    :param size: as the next of :class:`PixelObservation`
    :param rgb: three colours
    :param inverted: likewise
    :param frames: how many pictures are seen at once
    :param env_kwargs: of the environment
    :param vec_env_cls: SB3's ``SubprocVecEnv`` to draw in several processes; by default ``DummyVecEnv``
    :return: they; beneath the wrappers of ``VecEnv`` they show a Dict of both
    :raises ValueError: for an environment that draws no pictures
    """
    check_whole("frames", frames, 1)
    env: VecEnv = make_vec_env(
        env_id,
        n_envs,
        seed=seed,
        env_kwargs={"render_mode": "rgb_array", **(env_kwargs or {})},
        wrapper_class=PixelObservation,  # type: ignore[arg-type]
        wrapper_kwargs={"size": size, "rgb": rgb, "inverted": inverted},
        vec_env_cls=vec_env_cls,
    )
    env = VecParts(env, PIXELS)
    return VecFrameStack(env, frames) if frames > 1 else env
