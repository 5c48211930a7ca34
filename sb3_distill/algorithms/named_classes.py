"""The classes that fix a row of the table of methods."""

from sb3_distill.algorithms import a2c, ppo


def method_classes() -> dict[str, list[str]]:
    """
    :return: from the names of rows to those of the classes that fix them
    """
    classes: dict[str, list[str]] = {}
    for module in (ppo, a2c):
        for name, value in vars(module).items():
            row_name = vars(value).get("fixed_method") if isinstance(value, type) else None
            if row_name is not None:
                classes.setdefault(row_name, []).append(name)
    return classes
