"""`millrace completion`: prints the script with which a shell completes commands and options."""

from typing import Annotated, Final, Literal

import typer

# zsh loads a file of `fpath` at the first completion, which must be answered too.
_ZSH_AUTOLOAD: Final = '\n[[ $zsh_eval_context[-1] == loadautofunc ]] && _millrace_completion "$@"'


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="bash|zsh|fish", help="The shell.")],
) -> None:
    """Print the script that completes commands and options in a shell.

    \b
    bash: millrace completion bash > ~/.local/share/bash-completion/completions/millrace
    zsh:  millrace completion zsh > "${fpath[1]}/_millrace"
    fish: millrace completion fish > ~/.config/fish/completions/millrace.fish
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    script = get_completion_script(prog_name="millrace", complete_var="_MILLRACE_COMPLETE", shell=shell)
    typer.echo(script + (_ZSH_AUTOLOAD if shell == "zsh" else ""))
