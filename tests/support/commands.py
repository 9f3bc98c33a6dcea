"""Commands that files and pages name: whether ours take them."""

from collections.abc import Sequence

from typer.main import get_command

from cli import app

PROGRAM = "adaptivedrag"


def check_command(words: Sequence[str]) -> str:
    """Parse a command with its options as the program would, without running it.

    Args:
        words: what follows the name of the program.

    Returns:
        The name of the command.

    Raises:
        click.UsageError: if there is no such command, or it has no such option.
    """
    context = get_command(app).make_context(PROGRAM, [*words])
    name, command, rest = context.command.resolve_command(context, [*words])
    command.make_context(name, rest, parent=context)
    return name
