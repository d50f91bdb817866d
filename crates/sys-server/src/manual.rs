//! Manual pages and completion scripts, made from the command line's own definition.

use crate::options::Options;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use std::{io, path::Path};

/// The page of the program.
pub(crate) fn page() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Options::command()).render(&mut page)?;
    Ok(page)
}

/// One page for each command, as files of a folder.
pub(crate) fn pages(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Options::command(), dir)
}

/// What a shell reads to complete our commands.
pub(crate) fn completion(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    let mut command: Command = Options::command();
    clap_complete::generate(shell, &mut command, "sys-server", &mut script);
    script
}
