//! The mail that a server left in its outbox directory.

use crate::eventually;
use std::{fs, path::PathBuf};

/// Reads mail as its receivers do.
#[derive(Debug, Clone)]
pub struct Mailbox {
    dir: PathBuf,
}

impl Mailbox {
    /// The mailbox of a server that leaves its mail in this directory.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The newest token that was mailed to this address with these words in the subject; waits until it is there.
    pub async fn token(&self, to: &str, subject: &str) -> String {
        self.token_after(to, subject, 0).await
    }

    /// The same, but not before more than so many mails about it have come: the token of a mail that is still on its way.
    pub async fn token_after(&self, to: &str, subject: &str, seen: usize) -> String {
        eventually(&format!("a mail to {to} about {subject}"), async || {
            let mails = self.about(to, subject);
            token_in(mails.get(seen..)?.last()?)
        })
        .await
    }

    /// How many mails with these words in the subject this address has had.
    pub fn count(&self, to: &str, subject: &str) -> usize {
        self.about(to, subject).len()
    }

    /// Waits until so many mails with these words in the subject have come to this address.
    pub async fn arrived(&self, to: &str, subject: &str, count: usize) {
        eventually(&format!("{count} mails to {to} about {subject}"), async || {
            (self.count(to, subject) >= count).then_some(())
        })
        .await;
    }

    fn about(&self, to: &str, subject: &str) -> Vec<String> {
        let mails = self.mails_to(to).into_iter();
        mails.filter(|mail| header(mail, "Subject").contains(subject)).collect()
    }

    /// All mail to this address, oldest first.
    pub fn mails_to(&self, to: &str) -> Vec<String> {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.dir)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        files.sort();
        let mails = files.iter().filter(|path| path.extension().is_some_and(|e| e == "eml"));
        let texts = mails.filter_map(|path| fs::read_to_string(path).ok());
        texts.filter(|mail| header(mail, "To") == to).collect()
    }
}

fn header(mail: &str, name: &str) -> String {
    let prefix = format!("{name}: ");
    mail.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
}

/// The one word in the mail that has the form of a token: 43 characters of base64url.
fn token_in(mail: &str) -> Option<String> {
    let body = mail.replace("=\r\n", "").replace("=\n", "");
    let is_token =
        |word: &&str| word.len() == 43 && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    body.split(|c: char| c.is_whitespace() || "'\"".contains(c)).find(is_token).map(str::to_owned)
}
