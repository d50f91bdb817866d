//! Manual pages, made from the commands themselves: those that are always there and those that the server lets one call.

use crate::{failure::Failure, output::OutputError};
use clap::Command;
use std::path::Path;

/// The page of a command, or of the program.
pub(crate) fn page(root: Command, words: &[String]) -> Result<String, Failure> {
    let mut command = root;
    command.build();
    for word in words {
        command = command.find_subcommand(word).cloned().ok_or_else(|| {
            let help = "`sys help` lists the commands; those of a server appear once you are logged in";
            Failure::Usage(format!("there is no command `{}` here", words.join(" ")), help.to_owned())
        })?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(OutputError::Write)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// One page for each command, as files of a folder.
pub(crate) fn pages(root: Command, dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(root, dir))
        .map_err(|source| Failure::Folder { path: dir.display().to_string(), source })
}
