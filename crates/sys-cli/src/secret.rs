//! Passwords and one-time tokens: from standard input or a prompt, never from the command line, where every program of the
//! machine can read them and the shell keeps them.

use std::io::{self, BufRead, IsTerminal};
use zeroize::Zeroizing;

/// Bytes of one secret: above every bound that a server sets.
const MAX_SECRET_BYTES: usize = 4_096;

/// Where secrets come from.
pub(crate) trait Secrets {
    /// The secret called `name`: a line of standard input where `from_stdin` says so, else what the user types, else none.
    fn read(&mut self, name: &str, from_stdin: bool) -> Result<Option<Zeroizing<String>>, SecretError>;
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("standard input holds no line for --{name}-stdin")]
    NoLine { name: String },
    #[error("the {name} is longer than {MAX_SECRET_BYTES} bytes")]
    TooLong { name: String },
    #[error("cannot read the {name}: {source}")]
    Unreadable { name: String, source: io::Error },
    #[error("the two entries differ")]
    Differ,
    #[error("a {name} on a command line can be read by every program here, and the shell keeps it: take it for known")]
    OnCommandLine { name: &'static str },
    #[error("no {name}: there is no terminal to ask on")]
    NoTerminal { name: &'static str },
}

/// Standard input and the terminal.
#[derive(Debug)]
pub(crate) struct Terminal;

impl Secrets for Terminal {
    fn read(&mut self, name: &str, from_stdin: bool) -> Result<Option<Zeroizing<String>>, SecretError> {
        if from_stdin {
            return line_of(&mut io::stdin().lock(), name).map(Some);
        }
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let prompt = format!("{}: ", name.replace('-', " "));
        let typed = rpassword::prompt_password(prompt).map(Zeroizing::new);
        let typed = typed.map_err(|source| SecretError::Unreadable { name: name.to_owned(), source })?;
        Ok(Some(typed).filter(|typed| !typed.is_empty()))
    }
}

/// A secret that is being chosen: typed twice where it is typed.
pub(crate) fn chosen(
    secrets: &mut impl Secrets,
    name: &str,
    from_stdin: bool,
) -> Result<Option<Zeroizing<String>>, SecretError> {
    let first = secrets.read(name, from_stdin)?;
    if !from_stdin && first.is_some() && secrets.read(&format!("{name}-again"), false)? != first {
        return Err(SecretError::Differ);
    }
    Ok(first)
}

/// A token that was copied from somewhere, and perhaps a blank with it. No token has one.
pub(crate) fn pasted(
    secrets: &mut impl Secrets,
    name: &str,
    from_stdin: bool,
) -> Result<Option<Zeroizing<String>>, SecretError> {
    let read = secrets.read(name, from_stdin)?;
    Ok(read.map(|text| Zeroizing::new(text.trim().to_owned())).filter(|token| !token.is_empty()))
}

/// One line, without its end. Several secrets of one command stand on one line each.
fn line_of(input: &mut impl BufRead, name: &str) -> Result<Zeroizing<String>, SecretError> {
    let mut line = Zeroizing::new(Vec::new());
    let limit = u64::try_from(MAX_SECRET_BYTES + 2).unwrap_or(u64::MAX);
    let unreadable = |source| SecretError::Unreadable { name: name.to_owned(), source };
    io::Read::take(input, limit).read_until(b'\n', &mut line).map_err(unreadable)?;
    let bare = line.strip_suffix(b"\n").unwrap_or(&line);
    let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
    if bare.len() > MAX_SECRET_BYTES {
        return Err(SecretError::TooLong { name: name.to_owned() });
    }
    let text =
        std::str::from_utf8(bare).map_err(|error| unreadable(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    if text.is_empty() {
        Err(SecretError::NoLine { name: name.to_owned() })
    } else {
        Ok(Zeroizing::new(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_without_its_end() {
        let mut input: &[u8] = b"one two \r\nthree\nlast";
        for expect in ["one two ", "three", "last"] {
            assert_eq!(line_of(&mut input, "password").expect("a line").as_str(), expect);
        }
        assert!(matches!(line_of(&mut input, "password"), Err(SecretError::NoLine { .. })));
    }

    #[test]
    fn a_secret_of_any_size_or_bytes_is_no_panic() {
        let long = vec![b'x'; MAX_SECRET_BYTES + 10];
        assert!(matches!(line_of(&mut &*long, "password"), Err(SecretError::TooLong { .. })));
        assert!(matches!(line_of(&mut &b"\xff\n"[..], "password"), Err(SecretError::Unreadable { .. })));
        assert_eq!(line_of(&mut &long[..MAX_SECRET_BYTES], "password").expect("fits").len(), MAX_SECRET_BYTES);
    }
}
