"""A directive that prints an argparse parser: ``command-line:: MODULE:FUNCTION``, where the function makes the parser.

So the reference of ``sb3-distill`` has what its ``--help`` has, and never less. Help texts are plain: nothing in them is markup.
"""

import argparse
import importlib
from collections.abc import Iterable, Iterator
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class CommandLine(SphinxDirective):
    """A section for each command: what it is for, how it is called, its options by groups."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, function = self.arguments[0].partition(":")
        source = importlib.import_module(module)
        self.env.note_reread()  # commands are in many files
        return [self._section(parser) for parser in leaves(getattr(source, function)())]

    def _section(self, parser: argparse.ArgumentParser) -> nodes.section:
        section = nodes.section(ids=[nodes.make_id(parser.prog)], names=[nodes.fully_normalize_name(parser.prog)])
        section += nodes.title("", "", nodes.literal(text=parser.prog))
        for text in (parser.description, parser.epilog):
            if text:
                section += verbatim(plain(parser, text))
        section += usage(parser)
        for group in parser._action_groups:
            shown = [action for action in group._group_actions if shows(action)]
            if shown:
                title = group.title or ""
                section += nodes.paragraph(
                    "", "", nodes.strong(text=title[:1].upper() + title[1:], support_smartquotes=False)
                )
                if group.description:
                    section += verbatim(plain(parser, group.description))
                section += options(parser, shown)
        return section


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """
    :param parser: may have commands, and they commands of their own
    :return: the parsers of the commands, in the order of the help
    """
    commands = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not commands:
        yield parser
    for action in commands:
        for command in dict.fromkeys(action.choices.values()):
            yield from leaves(command)


def shows(action: argparse.Action) -> bool:
    """
    :param action: an option or a positional argument
    :return: whether the help shows it; ``--help`` itself is everywhere
    """
    return action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)


def usage(parser: argparse.ArgumentParser) -> nodes.literal_block:
    """
    :param parser: of a command
    :return: how it is called
    """
    positionals = [signature(action) for action in parser._actions if not action.option_strings and shows(action)]
    text = " ".join([parser.prog, *positionals, "[OPTION …]"])
    return nodes.literal_block(text, text, language="text")


def options(parser: argparse.ArgumentParser, actions: Iterable[argparse.Action]) -> nodes.definition_list:
    """
    :param parser: theirs
    :param actions: options and positional arguments
    :return: a term with the flags, and the help beneath it
    """
    entries = nodes.definition_list(classes=["options"])
    for action in actions:
        term = nodes.term("", "", nodes.literal(text=signature(action)))
        text = argparse.HelpFormatter(parser.prog)._expand_help(action) if action.help else ""
        entries += nodes.definition_list_item("", term, nodes.definition("", verbatim(text)))
    return entries


def verbatim(text: str) -> nodes.paragraph:
    """
    :param text: of a help
    :return: a paragraph in which two hyphens stay two hyphens
    """
    return nodes.paragraph(text=text, support_smartquotes=False)


def signature(action: argparse.Action) -> str:
    """
    :param action: an option or a positional argument
    :return: its flags and what follows them, as the help has it
    """
    formatter = argparse.HelpFormatter("")
    default = action.dest if action.option_strings else action.dest.upper()
    args = formatter._format_args(action, str(action.metavar or default)) if action.nargs != 0 else ""
    return f"{', '.join(action.option_strings)} {args}".strip()


def plain(parser: argparse.ArgumentParser, text: str) -> str:
    """
    :param parser: whose name may be in the text
    :param text: a description
    :return: the same with the name, as argparse does it
    """
    return text.replace("%(prog)s", parser.prog)


def setup(app: Any) -> dict[str, bool]:
    """
    :param app: Sphinx
    :return: what it may do with this
    """
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
