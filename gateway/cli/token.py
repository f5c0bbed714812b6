"""`millrace token reset`: replaces a lost admin token."""

import typer

from gateway.cli import common

app = typer.Typer(help="The admin token of this machine.", no_args_is_help=True, rich_markup_mode=None)


@common.command(app, overrides=True)
def reset(sources: common.Sources) -> None:
    """Make a new admin token and print it once. The old one, and its sessions, end.

    A running gateway accepts the new token within a second or two; a stopped one at its next start.
    """
    from gateway.adapters.local.credentials import replace_admin_token

    settings = sources.settings()
    if settings.admin.token.get_secret_value():
        common.fail(common.FAILED, "the settings have admin.token (see `millrace check-config`): change it there")
    if not settings.data.is_dir():
        common.fail(
            common.FAILED, f"there is no data folder {settings.data}: give the gateway's one with --set data=FOLDER"
        )
    typer.echo(replace_admin_token(settings.data))
