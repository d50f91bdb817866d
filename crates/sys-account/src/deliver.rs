//! The delivery of mail: by SMTP, or into a directory where a demo or a test reads it.
//!
//! Mail comes from the outbox, where it stands until it is delivered: what fails for now is tried again, under the same
//! message id, so that a second delivery can be told. What can never be delivered is given up here, for it would stand in
//! the way of all other mail. What must never happen here: an address or a text of a mail in a log line.

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use sys_core::outbox::{Mail, SendError, SendMail};
use tokio::io::AsyncWriteExt;

/// What stands after the `@` in message ids. RFC 2606 keeps it out of the way of real names.
const MESSAGE_ID_DOMAIN: &str = "outbox.sys.invalid";

/// Delivers mail.
#[derive(Clone)]
pub enum Mailer {
    /// To a mail server.
    Smtp {
        /// The connection.
        transport: AsyncSmtpTransport<Tokio1Executor>,
        /// Who writes.
        from: Mailbox,
    },
    /// As files into a directory that only its owner reads.
    OutboxDir {
        /// The directory.
        directory: PathBuf,
        /// Who writes.
        from: Mailbox,
    },
}

/// Why a mailer could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MailerError {
    /// The address that mail comes from is none.
    #[error("`{from}` is no address that mail can come from")]
    From {
        /// What was given.
        from: String,
    },
    /// The URL of the mail server is none. It may hold a password, so that it is not shown.
    #[error("the URL of the mail server is not valid: write smtps://USER:PASSWORD@HOST, or smtp://HOST?tls=required")]
    Url,
    /// The directory could not be made, or not closed to others.
    #[error("the outbox directory {} cannot be used", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smtp { .. } => f.write_str("Smtp(..)"),
            Self::OutboxDir { directory, .. } => f.debug_tuple("OutboxDir").field(directory).finish(),
        }
    }
}

impl Mailer {
    /// Mail goes to this server: `smtps://user:password@host`.
    pub fn smtp(url: &str, from: &str) -> Result<Self, MailerError> {
        let from = mailbox(from)?;
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url).map_err(|_| MailerError::Url)?.build();
        Ok(Self::Smtp { transport, from })
    }

    /// Mail goes as files into this directory, which is made if it is not there.
    pub fn outbox_directory(directory: impl Into<PathBuf>, from: &str) -> Result<Self, MailerError> {
        let (from, directory) = (mailbox(from)?, directory.into());
        match make_private(&directory) {
            Ok(()) => Ok(Self::OutboxDir { directory, from }),
            Err(source) => Err(MailerError::Directory { directory, source }),
        }
    }

    /// What the outbox calls with each mail.
    pub fn into_send(self) -> SendMail {
        let mailer = Arc::new(self);
        Arc::new(move |id, mail| {
            let mailer = mailer.clone();
            Box::pin(async move { mailer.deliver(&id, &mail).await })
        })
    }

    async fn deliver(&self, id: &str, mail: &Mail) -> Result<(), SendError> {
        let (Self::Smtp { from, .. } | Self::OutboxDir { from, .. }) = self;
        let Some(message) = message(from, id, mail) else {
            tracing::warn!(id, "a mail was given up: its address cannot be written to");
            return Ok(());
        };
        match self {
            Self::OutboxDir { directory, .. } => {
                let written = write_private(directory, &format!("{id}.eml"), &message.formatted()).await;
                written.map_err(|error| SendError(format!("the outbox directory: {error}")))
            }
            Self::Smtp { transport, .. } => match transport.send(message).await {
                Ok(_) => Ok(()),
                // RFC 5321 section 4.2.1: it would be refused again. The answer of the server may hold the address.
                Err(error) if error.is_permanent() => {
                    tracing::warn!(id, "a mail was given up: the mail server refused it for good");
                    Ok(())
                }
                Err(error) => Err(SendError(if error.is_transient() {
                    "the mail server refused a mail for now".to_owned()
                } else {
                    format!("the mail server cannot be reached: {error}")
                })),
            },
        }
    }
}

fn mailbox(from: &str) -> Result<Mailbox, MailerError> {
    from.parse().map_err(|_| MailerError::From { from: from.to_owned() })
}

/// The mail as it is sent, or `None` if it cannot be.
fn message(from: &Mailbox, id: &str, mail: &Mail) -> Option<Message> {
    Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, mail.to.parse().ok()?))
        .subject(mail.subject.clone())
        .message_id(Some(format!("<{id}@{MESSAGE_ID_DOMAIN}>")))
        .header(ContentType::TEXT_PLAIN)
        .body(mail.text.clone())
        .ok()
}

#[cfg(unix)]
fn make_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // It may have been there before, open to others.
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn make_private(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)
}

/// Writes a file whole or not at all, readable by its owner alone. A second writing of the same name changes nothing.
async fn write_private(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (path, part) = (directory.join(name), directory.join(format!(".{name}.part")));
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    options.mode(0o600);
    let mut file = options.open(&part).await?;
    file.write_all(bytes).await?;
    file.sync_all().await?;
    drop(file);
    tokio::fs::rename(&part, &path).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(to: &str) -> Mail {
        Mail { to: to.to_owned(), subject: "Prüfung".to_owned(), text: "token: abc\n".to_owned() }
    }

    #[tokio::test]
    async fn a_mail_is_one_file_that_only_its_owner_reads() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("outbox");
        let send = Mailer::outbox_directory(&directory, "server@example.org").unwrap().into_send();
        send("01ab".to_owned(), mail("ada@example.org")).await.unwrap();
        // At least once is what the outbox promises; the second time makes no second mail.
        send("01ab".to_owned(), mail("ada@example.org")).await.unwrap();
        let files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files, [directory.join("01ab.eml")]);
        let text = std::fs::read_to_string(&files[0]).unwrap();
        assert!(text.contains("To: ada@example.org") && text.contains("token: abc"), "{text}");
        assert!(text.contains("Message-ID: <01ab@"), "{text}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&directory), mode(&files[0])), (0o700, 0o600));
        }
    }

    #[tokio::test]
    async fn a_mail_that_can_never_be_sent_stands_in_nobodys_way() {
        let temporary = tempfile::tempdir().unwrap();
        let send = Mailer::outbox_directory(temporary.path(), "server@example.org").unwrap().into_send();
        send("01".to_owned(), mail("nobody")).await.unwrap();
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_mail_that_cannot_be_sent_now_is_tried_again() {
        // Nothing listens there.
        let send = Mailer::smtp("smtp://127.0.0.1:1", "server@example.org").unwrap().into_send();
        assert!(send("01".to_owned(), mail("ada@example.org")).await.is_err());
    }

    #[test]
    fn an_address_cannot_bring_headers_of_its_own() {
        let from: Mailbox = "server@example.org".parse().unwrap();
        assert!(message(&from, "01", &mail("ada@example.org\r\nBcc: eve@example.org")).is_none());
    }

    #[test]
    fn what_is_no_address_or_server_is_refused() {
        assert!(matches!(Mailer::smtp("smtp://127.0.0.1", "nobody"), Err(MailerError::From { .. })));
        assert!(matches!(Mailer::smtp("http://127.0.0.1", "server@example.org"), Err(MailerError::Url)));
        assert!(format!("{:?}", Mailer::smtp("smtp://u:secret@127.0.0.1", "a@example.org").unwrap()).len() < 20);
    }
}
