"""All that a student has learnt so far, in one file, from which its training goes on.

The file is an npz: arrays, and a tree of plain values in JSON that refers to them. It is read without a pickle: a folder that
somebody else has sent may hold anything, and the worst that it does is to be refused.
"""

import json
import random
import zipfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th

from sb3_distill.algorithms.averaging import WeightMean
from sb3_distill.algorithms.whitening import Statistics
from sb3_distill.common.damaged_zip import DAMAGED_ZIP
from sb3_distill.common.files import replacing
from sb3_distill.experiment.replay import episodes_of, go_on

if TYPE_CHECKING:
    from sb3_distill.algorithms.distillation import Distillation
    from sb3_distill.algorithms.policy_distillation import PolicyDistillation

#: the array that holds the tree
TREE = "tree"
#: counters of SB3's algorithms that go on
COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")


# --- the file ---------------------------------------------------------------------------------------------------------


def write_checkpoint(path: Path, state: Any) -> None:
    """
    :param path: of the file; what is there is replaced by the whole new one, or stays
    :param state: of tensors, arrays, numbers, text, None, and lists, tuples and dictionaries of these
    :raises OSError: if the disk is full
    """
    arrays: dict[str, np.ndarray] = {}
    tree = json.dumps(_packed(state, arrays)).encode()
    with replacing(path) as temporary:
        np.savez(temporary, **{TREE: np.frombuffer(tree, np.uint8)}, **arrays)  # type: ignore[arg-type]


def read_checkpoint(path: Path) -> Any:
    """
    :param path: of a file that :func:`write_checkpoint` wrote
    :return: the state; tensors are on the CPU
    :raises ValueError: if the file is damaged or none of these
    :raises OSError: if it cannot be read
    """
    try:
        with zipfile.ZipFile(path) as members:
            if any(member.compress_type != zipfile.ZIP_STORED for member in members.infolist()):
                raise ValueError("its parts are compressed")  # to what size, nobody knows
        with np.load(path, allow_pickle=False) as saved:
            return _unpacked(json.loads(saved[TREE].tobytes()), saved)
    except DAMAGED_ZIP as error:
        raise ValueError(f"{path} is damaged ({error}): remove it, and the same command begins anew.") from error


def _packed(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """JSON that tells lists from tuples and arrays from tensors; arrays go to ``arrays``."""
    if isinstance(value, (th.Tensor, np.ndarray)):
        name = f"array_{len(arrays)}"
        arrays[name] = value.detach().cpu().numpy() if isinstance(value, th.Tensor) else value
        return ["tensor" if isinstance(value, th.Tensor) else "array", name]
    if isinstance(value, Mapping):
        return ["dict", [[key, _packed(item, arrays)] for key, item in value.items()]]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [_packed(item, arrays) for item in value]]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _unpacked(packed: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """What :func:`_packed` was given."""
    if not isinstance(packed, list):
        return packed
    kind, content = packed
    if kind in ("tensor", "array"):
        return th.from_numpy(arrays[content]) if kind == "tensor" else arrays[content]
    if kind == "dict":
        return {key: _unpacked(item, arrays) for key, item in content}
    items = [_unpacked(item, arrays) for item in content]
    return tuple(items) if kind == "tuple" else items


def check_state(state: Any, path: Path) -> dict[str, Any]:
    """
    :param state: that was read
    :param path: for the message
    :return: the state, with all that a run takes up from it
    :raises ValueError: if it is of something else
    """
    numbers, number = (int, float), (int,)
    kinds = {"evaluation_seconds": numbers, "training_seconds": numbers, "evaluation_steps": number, "points": (list,)}
    try:
        for name, kind in kinds.items():
            if not isinstance(state[name], kind):
                raise TypeError(f"its {name} are {str(state[name])[:80]!r}")
        for steps, score in state["points"]:
            if not isinstance(steps, int) or not all(isinstance(value, numbers) for value in score):
                raise TypeError(f"a point is {str(score)[:80]!r}")
        if state["temperature"] is not None:
            temperature, report = state["temperature"]
            if not isinstance(temperature, numbers) or not isinstance(report, str):
                raise TypeError(f"its temperature is {str(temperature)[:80]!r}")
        for name in ("weights", "optimizer", "mean", "counters", "random"):
            state["student"][name]
        if not isinstance(state["student"]["counters"]["num_timesteps"], int):
            raise TypeError("its number of steps is none")
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it, and the same command begins anew.") from error
    if state.get("reinforcement") is not None:
        check_state(state["reinforcement"], path)
    return dict(state)


# --- a student --------------------------------------------------------------------------------------------------------


def student_state(student: "Distillation | PolicyDistillation") -> dict[str, Any]:
    """
    :param student: between two of its rollouts
    :return: what it is: weights, optimiser, the mean of its weights, statistics of what it has seen, counters, the random numbers that
        come next, and how its environments came to where they are, as far as :mod:`~sb3_distill.experiment.replay` can tell. The memory
        of a policy distillation with an environment is not in it, and fills again
    """
    mean = getattr(student, "_mean", None)
    seen = getattr(student, "observation_statistics", None)
    remembered = getattr(student, "_last_lstm_states", None)
    return {
        "weights": student.policy.state_dict(),
        "optimizer": student.policy.optimizer.state_dict(),
        "mean": None if mean is None else vars(mean),
        "observations": None if seen is None else list(seen),
        "counters": {name: getattr(student, name) for name in COUNTERS},
        "returns": list(student.ep_info_buffer or ()),
        "random": _random_state(student),
        "episodes": episodes_of(student),
        "memory": None if remembered is None else [part for lstm in remembered for part in lstm],
    }


def restore_student(student: "Distillation | PolicyDistillation", state: Mapping[str, Any], path: Path) -> bool:
    """
    Take up what was learnt.

    :param student: made with the same settings
    :param state: of :func:`student_state`
    :param path: for the message
    :return: whether its environments are where they were, too; else they begin episodes that it has not met
    :raises ValueError: if the state is of another network
    """
    try:
        student.policy.load_state_dict(state["weights"])
        student.policy.optimizer.load_state_dict(state["optimizer"])
        for name in COUNTERS:
            setattr(student, name, int(state["counters"][name]))
        if state.get("observations") is not None:
            count, *columns = state["observations"]
            mean, variance = ([float(x) for x in column] for column in columns)
            student.observation_statistics = Statistics(int(count), mean, variance)  # type: ignore[union-attr]
        if state.get("returns"):  # of the last episodes, by which a weight may go
            student.ep_info_buffer = deque(state["returns"], maxlen=student._stats_window_size)
            student.ep_success_buffer = deque(maxlen=student._stats_window_size)  # SB3 makes both or none
        binding = getattr(student, "_binding", None)
        # What a teacher sees of its own or remembers is not played again.
        in_place = not (binding is not None and binding.begins_with_an_episode) and go_on(
            student, state.get("episodes")
        )
        if in_place and state.get("memory") is not None:
            _restore_memory(student, state["memory"])
        if student.env is not None and not in_place:
            # The seed itself would bring the first episodes again.
            (seed,) = np.random.SeedSequence([student.seed or 0, student.num_timesteps]).generate_state(1)
            student.env.seed(int(seed) % (1 << 31))
        _restore_random_state(student, state["random"])
        return in_place
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        first = next(iter(str(error).splitlines()), "")
        raise ValueError(
            f"{path} is not of the student that these settings make ({first}): remove it, and the same command begins anew."
        ) from error


def _restore_memory(student: Any, parts: Any) -> None:
    """What a student remembers of the episodes that go on; of others it remembers nothing."""
    known = student._last_lstm_states
    if len(parts) != 4 or any(part.shape != known.pi[0].shape for part in parts):
        raise ValueError("it remembers in another shape")
    shown, kept, critics_shown, critics_kept = (part.to(student.device, th.float32) for part in parts)
    student._last_lstm_states = type(known)((shown, kept), (critics_shown, critics_kept))


def restore_mean(student: "Distillation | PolicyDistillation", state: Mapping[str, Any]) -> None:
    """
    :param student: whose ``learn`` has begun, which forgets the mean of the weights
    :param state: of :func:`student_state`
    """
    if state["mean"] is not None:
        mean = WeightMean()
        vars(mean).update(_on(student.device, state["mean"]))
        student._mean = mean  # type: ignore[union-attr]


def _on(device: th.device, value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _on(device, item) for name, item in value.items()}
    if isinstance(value, list):
        return [_on(device, item) for item in value]
    return value.to(device) if isinstance(value, th.Tensor) else value


def _random_state(student: "Distillation | PolicyDistillation") -> dict[str, Any]:
    state = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": th.get_rng_state(),
        "cuda": th.cuda.get_rng_state_all() if student.device.type == "cuda" else [],
        "actions": student.action_space.np_random.bit_generator.state,
    }
    turns = getattr(student, "_turns", None)  # a student's; what goes on by reinforcement has none
    return state if turns is None else state | {"own": turns.rng.bit_generator.state, "turns": turns.present.tolist()}


def _restore_random_state(student: "Distillation | PolicyDistillation", state: Mapping[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    th.set_rng_state(state["torch"])
    if student.device.type == "cuda" and len(state["cuda"]) == th.cuda.device_count():
        th.cuda.set_rng_state_all(state["cuda"])
    student.action_space.np_random.bit_generator.state = state["actions"]
    if "own" in state:
        student._turns.rng.bit_generator.state = state["own"]
        student._turns.present = np.array(state.get("turns", []), dtype=bool)
