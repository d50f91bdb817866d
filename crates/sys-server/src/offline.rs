//! `sys-server end-sessions` and `change-passphrase`: their flags, and what they say at the end.

use crate::key_flags::{KeyFlags, passphrase_in};
use clap::Args;
use std::path::PathBuf;
use sys_keys::Unsealer;
use sys_server::upkeep;

#[derive(Debug, Args)]
pub(crate) struct EndSessions {
    /// The data directory. No server may be running on it.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,

    #[command(flatten)]
    key: KeyFlags,
}

#[derive(Debug, Args)]
pub(crate) struct ChangePassphrase {
    /// The data directory. No server may be running on it.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,

    #[command(flatten)]
    key: KeyFlags,

    /// Reads the new passphrase from this file, without its last line break.
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: PathBuf,
}

/// Ends all sessions and what mails make good, and says how many there were.
pub(crate) async fn end_sessions(options: EndSessions) -> anyhow::Result<String> {
    let ended = upkeep::end_sessions(&options.data_dir, options.key.unsealer()?).await?;
    Ok(format!(
        "sessions that were ended: {}; one-time tokens that are void: {}; invitations that were withdrawn: {}\n",
        ended.sessions, ended.tokens, ended.invitations
    ))
}

/// Changes the passphrase, and says what that does not reach.
pub(crate) async fn change_passphrase(options: ChangePassphrase) -> anyhow::Result<String> {
    let new = Unsealer::Passphrase(passphrase_in(&options.new_passphrase_file)?);
    let old = options.key.unsealer()?;
    let left = match &old {
        Unsealer::DangerKeyFile(file) => {
            let file = file.display();
            format!("Its copies from before still open by {file}: copy it anew, and destroy them and {file}")
        }
        _ => "Its copies from before still open by the old one: copy it anew, and destroy them".to_owned(),
    };
    let keys = upkeep::change_passphrase(&options.data_dir, old, new).await?;
    Ok(format!("{} opens by the new passphrase. {left}\n", keys.display()))
}
