"""Which actions are allowed in the states of a rollout that no student acts in: the last ones, and those at which time limits cut."""

from sb3_distill.algorithms.rollout import Rollout
from sb3_distill.common.masks import METHOD, checked_masks


def hear_last_masks(heard: Rollout) -> int:
    """
    Add the masks of s_{T+1} and of the states at which time limits cut episodes. SB3's environments begin the next episode in the same
    step, after which nobody can be asked about the last one: its mask is in the step's info, or the one before stands in for it.

    :param heard: of a rollout that is over, with the masks of s_1 … s_T
    :return: for how many states the mask before stands in
    :raises ValueError: for a mask that is none
    """
    n_unknown = 0
    space = heard.env.action_space
    for (step, i, _), said in zip(heard.tap.truncated, heard.env.truncated_masks, strict=True):
        if said is None:
            n_unknown += 1
            heard.end_masks.append(heard.masks[step][i])
        else:
            when = f"after step {step + 1} of this rollout, in its info"
            heard.end_masks.append(checked_masks([said], space, when, first=i)[0])
    heard.env.env_method(METHOD)
    assert heard.env.masks is not None
    heard.masks.append(heard.env.masks)
    return n_unknown
