"""A network in an ONNX file, which ONNX Runtime computes: nothing in such a file is code."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from sb3_distill.common.observations import as_laid_out, length
from sb3_distill.common.user_code import first_line
from sb3_distill.teachers.answer_kinds import AnswerError
from sb3_distill.teachers.asked import shapes

#: names that the outputs of each kind of answer go by, besides the kind's own
_NAMES = {
    "action": ("action", "actions"),
    "logits": ("logits", "scores"),
    "q_values": ("q_values", "scores"),
    "probabilities": ("probabilities", "probs"),
    "value": ("value", "values"),
}
#: parts of the names of a mean and of a standard deviation, unless they are of its logarithm
_MOMENTS = (("mean", "mu", "loc"), ("std", "sigma", "scale", "stddev"))
_LOGARITHM = ("log", "ln")
#: inputs that are no observations, besides states: where an episode begins, and which actions are allowed
START, MASKS = "episode_start", "action_masks"
#: what the output is called that is the next step's input
NEXT = "next_"
#: NumPy's of ONNX's
DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint64)": np.uint64,
    "tensor(uint32)": np.uint32,
    "tensor(uint16)": np.uint16,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


class OnnxFunction:
    """
    From a batch of observations to what the file answers.

    :param path: of the file; weights beside it are found where it says
    :param outputs: which of its outputs are the answer; two for a mean and a standard deviation
    :raises FileNotFoundError: if there is no such file
    :raises ValueError: if it cannot be read, or has no such output
    :raises ImportError: if ONNX Runtime is missing
    """

    def __init__(self, path: str | Path, outputs: str | Sequence[str] | None = None) -> None:
        self.path = Path(path).expanduser()
        self.__name__ = str(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"No ONNX file at {str(path)!r}.")
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError("Teachers in ONNX files need ONNX Runtime: pip install 'sb3-distill[export]'.") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of its own classes
            raise ValueError(f"ONNX Runtime cannot read {path}: {first_line(error)}") from error
        self.by_name = {one.name: one for one in self.session.get_inputs()}
        named = [output.name for output in self.session.get_outputs()]
        #: inputs that a step before gives, and the outputs that give them
        self.states = {name: NEXT + name for name in self.by_name if NEXT + name in named}
        self.known = [name for name in named if name not in self.states.values()]
        given = [outputs] if isinstance(outputs, str) else list(outputs or [])
        for name in given:
            if name not in self.known:
                raise ValueError(f"{path} has no output {name!r}: it has {', '.join(map(repr, self.known))}.")
        self.outputs = given

    def choose(self, answers: str) -> None:
        """
        Find the outputs of a kind of answer, where they were not given.

        :param answers: which
        :raises ValueError: if it is not told by their names and number
        """
        if self.outputs:
            return
        has = f"{self.path} has the output{'s' * (len(self.known) > 1)} {', '.join(map(repr, self.known))}"
        instead = f"in place of the path give OnnxFunction({str(self.path)!r}, outputs=…), of sb3_distill.teachers.onnx_function"
        if answers == "mean_and_std":
            found = [[name for name in self.known if _is_called(name, parts)] for parts in _MOMENTS]
            if [len(names) for names in found] != [1, 1] or found[0] == found[1]:
                raise ValueError(
                    f"{has}, and which of them are mean and standard deviation is not told by their names: {instead}, with "
                    "outputs=('THE MEAN', 'THE STANDARD DEVIATION'). Of its logarithm make a function, with batched=True, that asks "
                    "such a one and gives back mean and np.exp(log_std)."
                )
            self.outputs = [found[0][0], found[1][0]]
            return
        named = [name for name in _NAMES[answers] if name in self.known]
        if not named and len(self.known) > 1:
            raise ValueError(f"{has}, and none is called {answers!r}: {instead}.")
        self.outputs = (named or self.known)[:1]

    def state_dict(self) -> dict[str, th.Tensor]:
        """What tells it from other files: a digest of it, and of the files beside it that hold its weights."""
        written = self.path.read_bytes()
        digest = hashlib.sha256(written)
        for beside in _data_files(self.path, written):
            digest.update(beside.read_bytes())
        return {" ".join(self.outputs): th.tensor(list(digest.digest()), dtype=th.uint8)}

    def __call__(self, obs: Any) -> Any:
        """
        :param obs: n observations, an array or a dict of arrays by the names of inputs
        :return: n answers; a tuple of several outputs
        """
        n, size = length(obs), 0
        given = self.given(obs, n)
        for name in given:
            shape = self.by_name[name].shape
            batch = shape[0] if shape else None
            size = batch if isinstance(batch, int) and batch > 0 else size
        parts = []
        for start in range(0, n, size or n):
            cut = {name: self._cut(values, self.by_name[name], start, size) for name, values in given.items()}
            parts.append(self.session.run(self.outputs, cut))
        whole = [
            np.concatenate(rows)[:n] if np.ndim(rows[0]) else np.asarray(rows[0]) for rows in zip(*parts, strict=True)
        ]
        return tuple(whole) if len(whole) > 1 else whole[0]

    def given(self, obs: Any, n: int) -> dict[str, np.ndarray]:
        """
        :param obs: n observations
        :param n: how many
        :return: what the file takes of them, by name; where it takes masks, all actions are allowed
        :raises AnswerError: if it takes something else
        """
        names = [name for name in self.by_name if name not in self.states and not (name == START and self.states)]
        masks = {}
        if MASKS in names and not (isinstance(obs, dict) and MASKS in obs):
            names.remove(MASKS)
            self._check_type(self.by_name[MASKS])
            masks[MASKS] = np.ones((n, *self.by_name[MASKS].shape[1:]), DTYPES[self.by_name[MASKS].type])
        found = {
            # Where SB3 has put the channels of an image first, or has not, the file says which it takes.
            name: as_laid_out(np.asarray(values), tuple(self.by_name[name].shape[1:]), first=1)
            for name, values in self._named(obs, names).items()
        }
        for name, values in found.items():
            self._check(self.by_name[name], np.shape(values), obs)
        return {name: self._cast(self.by_name[name], values) for name, values in found.items()} | masks

    def _named(self, obs: Any, names: list[str]) -> dict[str, Any]:
        if isinstance(obs, dict):
            # Where a key is also the name of another input, files of sb3-distill's have "observation.KEY".
            parts = obs if set(names) <= set(obs) else {f"observation.{key}": values for key, values in obs.items()}
            if set(names) <= set(parts):
                return {name: parts[name] for name in names}
        elif len(names) == 1:
            return {names[0]: obs}
        raise AnswerError(
            f"{self.path} takes {', '.join(map(repr, self.by_name))}, and the observations are {shapes(obs)}: an input for each of them is "
            f"needed, of its name, and no other one. {self.expected}"
        )

    @property
    def expected(self) -> str:
        """Of a file that remembers, for messages."""
        return (
            f"What it remembers may be inputs, too, of one state or of any number, each with an output {NEXT}… from which the next step "
            f"has it, such as lstm_hidden and {NEXT}lstm_hidden, of shape (layers, n, units), zeros at first; and {START}, of shape (n,), "
            "1 where an episode begins."
        )

    def _check(self, one: Any, shape: tuple[int, ...], obs: Any) -> None:
        self._check_type(one)
        fits = len(one.shape) == len(shape)
        fits = fits and all(
            not isinstance(a, int) or a in (b, -1) for a, b in zip(one.shape[1:], shape[1:], strict=True)
        )
        if not fits:
            wanted = tuple(s if isinstance(s, int) else "n" for s in one.shape)
            raise AnswerError(
                f"{self.path} takes {one.name!r} of shape {wanted}, {one.type}, and the observations are of shape {shapes(obs)}: it is "
                "of another environment, or sees what a wrapper makes of this one."
            )

    def _check_type(self, one: Any) -> None:
        if one.type not in DTYPES:
            raise AnswerError(
                f"{self.path} takes {one.name!r} of {one.type}, which observations are never of: write the file with an input of float32. "
                f"Known are {', '.join(DTYPES)}."
            )

    def _cast(self, one: Any, values: np.ndarray) -> np.ndarray:
        """Of the input's dtype, unless that makes other numbers of them."""
        wanted = np.dtype(DTYPES[one.type])
        if values.dtype.kind == "f" and wanted.kind in "iub":
            raise AnswerError(
                f"{self.path} takes {one.name!r} of {wanted}, and the observations are of {values.dtype}, of which it would see no "
                "fractions: write the file with an input of float32, or give a function that makes of an observation what the file takes."
            )
        if values.size and wanted.kind in "iub" and not np.can_cast(values.dtype, wanted):
            limits = None if wanted.kind == "b" else np.iinfo(wanted.str)
            least, most = (0, 1) if limits is None else (limits.min, limits.max)
            if values.min() < least or values.max() > most:
                raise AnswerError(
                    f"{self.path} takes {one.name!r} of {wanted}, {least} … {most}, and the observations are of {values.dtype}, from "
                    f"{values.min()} to {values.max()}: write the file with an input that holds them."
                )
        return np.asarray(values, wanted)

    def _cut(self, values: Any, one: Any, start: int, size: int) -> np.ndarray:
        """Some of the states, as many as the file takes at a time: the last one more often, if there are not enough."""
        part = np.asarray(values)[start : start + size] if size else np.asarray(values)
        if size and len(part) < size:
            part = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        return np.ascontiguousarray(part, DTYPES[one.type])


def _is_called(name: str, parts: tuple[str, ...]) -> bool:
    """Whether the name of an output has one of the parts, and is not of a logarithm."""
    words = re.split(r"[^a-z]+", name.lower())
    return any(word in parts for word in words) and not any(word in _LOGARITHM for word in words)


def _data_files(path: Path, written: bytes) -> list[Path]:
    """
    The files that an ONNX file names as those of its weights, in its folder and those below it, where ONNX Runtime reads them. Entries are
    looked for as such files write them, so that ``onnx`` is not needed.
    """
    inside = {path.parent.resolve(), path.resolve().parent}
    found = set()
    for entry in re.finditer(rb"\n\x08location\x12([\x80-\xff]{0,2}[\x00-\x7f])", written):
        size = sum((byte & 127) << 7 * k for k, byte in enumerate(entry[1]))
        name = written[entry.end() : entry.end() + size].decode(errors="replace")
        beside = path.parent / name
        if "\0" not in name and beside.is_file() and inside & set(beside.resolve().parents):
            found.add(beside)
    return sorted(found)
