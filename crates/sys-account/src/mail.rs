//! What people are told by mail: in plain text, with no link that could be another's, with a token at most.
//!
//! A mail to an address of which nobody knows whose it is says nothing about any account but the one of that address.
//!
//! A token stands on a line of its own, shorter than 76 letters: the mail's encoding would break a longer one, and a copied token
//! with it. It stands in no command, where whoever else uses the machine would see it: the commands ask for it.

use sys_core::{
    identity::Email,
    outbox::{Effect, Mail},
    token::TokenSecret,
};

/// To who has just registered, or did before and asks again.
pub(crate) fn verify(to: &Email, server: &str, token: &TokenSecret) -> Effect {
    let token = token.text();
    effect(
        to,
        "Prove your address",
        format!(
            "Somebody, probably you, registered an account with this address at\n{server}\n\n\
         To prove that the address is yours, show this token together with the\n\
         password that you chose when you registered:\n\n  {}\n\n\
         With the command line, which asks for both:\n\n  sys auth verify-email \\\n    --server {server}\n\n\
         The token is good for 24 hours. If it was not you, do nothing: without\n\
         this mail nobody can use the account.\n",
            &*token,
        ),
    )
}

/// To the owner of an address that somebody tried to register again.
pub(crate) fn registered_already(to: &Email, server: &str) -> Effect {
    effect(
        to,
        "You have an account already",
        format!(
            "Somebody, probably you, tried to register this address at\n{server}\n\n\
         It has an account already, and nothing was changed. If you forgot your\n\
         password, ask for a new one:\n\n{}",
            forgot_password(server),
        ),
    )
}

/// To who forgot a password.
pub(crate) fn reset(to: &Email, server: &str, token: &TokenSecret) -> Effect {
    let token = token.text();
    effect(
        to,
        "Choose a new password",
        format!(
            "Somebody, probably you, forgot the password of the account with this\naddress at {server}\n\n\
         To choose a new one, show this token:\n\n  {}\n\n{}\
         The token is good for one hour. If it was not you, do nothing: your\n\
         password stays as it is.\n",
            &*token,
            reset_password(server),
        ),
    )
}

/// To the owner of an address without an account, for which somebody asked for a new password.
pub(crate) fn no_account(to: &Email, server: &str) -> Effect {
    effect(
        to,
        "No password to choose",
        format!(
            "Somebody, probably you, asked for a new password for this address at\n{server}\n\n\
         No account that could log in has this address, or several mails with a\n\
         token are on their way already. Perhaps you registered with another one.\n",
        ),
    )
}

/// To who chose a new password.
pub(crate) fn password_changed(to: &Email, server: &str) -> Effect {
    effect(
        to,
        "Your password was changed",
        format!(
            "The password of the account with this address at\n{server}\nwas changed. Whoever else was logged in with it is logged out.\n\n\
         If it was not you, ask for a new password now: somebody else reads your\nmail.\n",
        ),
    )
}

/// To the address that an account is to have.
pub(crate) fn confirm_email(to: &Email, server: &str, token: &TokenSecret) -> Effect {
    let token = token.text();
    effect(
        to,
        "Confirm your new address",
        format!(
            "Somebody, probably you, wants an account to have this address at\n{server}\n\n\
         To confirm that, show this token where you are logged in:\n\n  {}\n\n\
         With the command line, which asks for it:\n\n  sys auth confirm-email \\\n    --server {server}\n\n\
         The token is good for one hour. If it was not you, do nothing: without\n\
         the password of that account it is good for nothing.\n",
            &*token,
        ),
    )
}

/// To the owner of an address that somebody wants another account to have.
pub(crate) fn email_in_use(to: &Email, server: &str) -> Effect {
    effect(
        to,
        "This address has an account already",
        format!(
            "Somebody, probably you, wanted an account to have this address at\n{server}\n\n\
         It has one already, and nothing was changed. If you forgot its\n\
         password, ask for a new one:\n\n{}",
            forgot_password(server),
        ),
    )
}

/// To the address of an account for which another was asked.
pub(crate) fn email_change_asked(to: &Email, server: &str) -> Effect {
    effect(
        to,
        "Another address was asked for",
        format!(
            "Somebody, probably you, asked for another address for the account with\nthis one at {server}\n\n\
         It changes once the new address is confirmed. If it was not you, choose\n\
         a new password now: somebody else knows yours.\n\n  sys auth change-password \\\n    --server {server}\n",
        ),
    )
}

/// To the address that an account had.
pub(crate) fn email_changed(to: &Email, server: &str) -> Effect {
    effect(
        to,
        "Your address was changed",
        format!(
            "The account that had this address at\n{server}\nhas another now. Whoever else was logged in with it is logged out.\n\n\
         If it was not you, tell the operator of the server.\n",
        ),
    )
}

/// To who was given an account.
pub(crate) fn welcome(to: &Email, server: &str, token: &TokenSecret) -> Effect {
    let token = token.text();
    effect(
        to,
        "An account was made for you",
        format!(
            "An account with this address was made for you at\n{server}\n\n\
         To choose its password, show this token:\n\n  {}\n\n{}\
         The token is good for 24 hours. Later, ask for a new password.\n",
            &*token,
            reset_password(server),
        ),
    )
}

/// To who is invited into an org, or one of its projects.
pub(crate) fn invitation(
    to: &Email,
    server: &str,
    org: &str,
    project: Option<&str>,
    role: &str,
    token: &TokenSecret,
) -> Effect {
    let token = token.text();
    // Names are what other people wrote: on a line of their own, and short.
    let place = project.map_or_else(|| one_line(org), |project| format!("{} / {}", one_line(org), one_line(project)));
    effect(
        to,
        "You are invited",
        format!(
            "You are invited at {server}\n\n  as {role} into: {place}\n\n\
         Log in (or register first), then accept with this token:\n\n  {}\n\n\
         With the command line, which asks for it:\n\n  sys membership accept-invitation \\\n    --server {server}\n\n\
         The invitation is good for 14 days. To decline, do nothing.\n",
            &*token,
        ),
    )
}

fn reset_password(server: &str) -> String {
    format!("With the command line, which asks for both:\n\n  sys auth reset-password \\\n    --server {server}\n\n")
}

fn forgot_password(server: &str) -> String {
    format!("  sys auth forgot-password --email YOUR-ADDRESS \\\n    --server {server}\n")
}

/// Most letters of a name in a mail.
const MAX_NAME_CHARS: usize = 100;

/// A name that cannot look like a part of the mail.
fn one_line(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(MAX_NAME_CHARS).collect()
}

fn effect(to: &Email, subject: &str, text: String) -> Effect {
    Effect::Mail(Mail { to: to.as_str().to_owned(), subject: subject.to_owned(), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(effect: Effect) -> String {
        let Effect::Mail(mail) = effect;
        assert!(!mail.subject.contains('\n'));
        mail.text
    }

    #[test]
    fn a_name_cannot_forge_lines_of_a_mail() {
        let to = Email::assume_canonical("ada@example.org");
        let token = TokenSecret::new([7; 32]);
        let name = "Harbour\n\nYour password has expired, send it to x\r\n";
        let text = text_of(invitation(&to, "https://s.example", name, None, "ADMIN", &token));
        assert!(text.contains("into: HarbourYour password has expired"), "{text}");
        assert_eq!(
            text.lines().count(),
            text_of(invitation(&to, "https://s.example", "x", None, "ADMIN", &token)).lines().count()
        );
    }

    #[test]
    fn a_mail_has_no_link_with_its_token() {
        let to = Email::assume_canonical("ada@example.org");
        let token = TokenSecret::new([7; 32]);
        for effect in [
            verify(&to, "https://s.example", &token),
            reset(&to, "https://s.example", &token),
            welcome(&to, "https://s.example", &token),
            confirm_email(&to, "https://s.example", &token),
        ] {
            let text = text_of(effect);
            assert!(text.contains(&*token.text()));
            assert!(
                text.split_whitespace().all(|word| !(word.contains("://") && word.contains(&*token.text()))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_token_stands_alone_on_a_line_and_in_no_command() {
        let (to, server) = (Email::assume_canonical("ada@example.org"), "http://127.0.0.1:8443");
        let token = TokenSecret::new([7; 32]);
        let mails = [
            verify(&to, server, &token),
            reset(&to, server, &token),
            welcome(&to, server, &token),
            confirm_email(&to, server, &token),
            invitation(&to, server, "An org", Some("A project"), "ADMIN", &token),
        ];
        for Effect::Mail(mail) in mails {
            let lines: Vec<&str> = mail.text.lines().filter(|line| line.contains(token.text().as_str())).collect();
            assert_eq!(lines, [format!("  {}", &*token.text())], "{}", mail.subject);
            assert!(mail.text.lines().all(|line| line.len() <= 76), "{}: {}", mail.subject, mail.text);
            assert!(mail.text.contains("\n  sys ") && mail.text.contains(" \\\n    --server http://127.0.0.1:8443\n"));
        }
    }
}
