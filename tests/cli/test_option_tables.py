"""The page of options is that of the declarations."""

from pathlib import Path

from histomri_cli.option_tables import tables


def test_the_page_of_options_is_up_to_date():
    page = Path(__file__).resolve().parents[2] / "docs" / "options.md"
    assert page.read_text() == tables() + "\n", "run: python -m histomri_cli.option_tables > docs/options.md"
