//! `kiln completion`

use clap_complete::Shell;

use super::command::{self, Run};
use super::error::Result;
use super::session::Session;

/// Generate the autocompletion script for the specified shell
#[derive(clap::Parser)]
#[command(after_help = "To load completions in this bash session:\n\n  source <(kiln completion bash)\n\n\
                        For every session write the script to a file that the shell reads:\n\n  \
                        bash:  /etc/bash_completion.d/kiln\n  \
                        zsh:   _kiln in a directory of $fpath\n  \
                        fish:  ~/.config/fish/completions/kiln.fish")]
pub struct Args {
    /// The shell: bash, zsh or fish
    #[arg(value_parser = shell)]
    shell: Shell,
}

fn shell(name: &str) -> std::result::Result<Shell, String> {
    match name {
        "bash" => Ok(Shell::Bash),
        "zsh" => Ok(Shell::Zsh),
        "fish" => Ok(Shell::Fish),
        _ => Err("the shells are bash, zsh and fish".to_owned()),
    }
}

impl Run for Args {
    fn run(self, session: &mut Session) -> Result<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command::tree(), "kiln", &mut script);
        session.print(&String::from_utf8_lossy(&script)).map(|()| 0)
    }
}
