"""The command line as users type it, in this process."""

import pytest
from typer.testing import CliRunner

from histomri_cli.app import app


@pytest.fixture
def run():
    """Run a command: what goes wrong may end it with a message, never with a traceback."""

    def call(*arguments):
        result = CliRunner().invoke(app, [str(each) for each in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call
