"""Names in sentences: an A2C, a PPO."""


def with_article(name: str) -> str:
    """
    >>> with_article("ActorCriticTeacher"), with_article("QTeacher")
    ('an ActorCriticTeacher', 'a QTeacher')

    :param name: of a class
    :return: with the article that goes before it
    """
    return f"{'an' if name[:1] in tuple('AEIOaeio') else 'a'} {name}"
