//! `login`, `setup`, `logout` and `whoami`.

use crate::{
    audit_commands, built_in,
    failure::Failure,
    output::{self, Format},
    plain,
    secret::{self, SecretError, Secrets},
    server_commands, trace,
};
use clap::ArgMatches;
use serde_json::{Value as Json, json};
use std::fmt;
use sys_client::{
    Client, Endpoint, Fingerprint, KeychainError, Place, SessionStore,
    auth::{Binding, LoginRequest, SetupRequest, WhoAmI},
};
use zeroize::Zeroizing;

/// Logs in and keeps the session.
pub(crate) async fn login(
    matches: &ArgMatches,
    server: &Endpoint,
    sessions: SessionStore,
    secrets: &mut impl Secrets,
) -> Result<(), Failure> {
    built_in::none_in_arguments(matches, &["password"])?;
    let told = server_commands::told(matches, server)?;
    let password = required("password", secrets.read("password", matches.get_flag("password-stdin"))?)?;
    let request = LoginRequest {
        email: text(matches, "email").unwrap_or_default(),
        password: password.as_str().to_owned(),
        device_name: text(matches, "device-name").unwrap_or_else(built_in::machine_name),
    };
    let client = Client::connect_to_log_in(server, sessions.clone(), &told).await?.within(trace::of_environment());
    let place = Kept::choose(matches, &sessions).await?;
    client.log_in(&request, &place.place).await?;
    check_heads(&client, &sessions, matches.get_flag("trust-audit-anew")).await?;
    output::note(&format!("logged in to {server} as {}{place}", request.email));
    Ok(())
}

/// Makes the first superadmin and keeps the session.
pub(crate) async fn setup(
    matches: &ArgMatches,
    server: &Endpoint,
    sessions: SessionStore,
    secrets: &mut impl Secrets,
) -> Result<(), Failure> {
    built_in::none_in_arguments(matches, &["token", "password"])?;
    let told = server_commands::told(matches, server)?;
    let token = required("token", secret::pasted(secrets, "token", matches.get_flag("token-stdin"))?)?;
    let password = required("password", secret::chosen(secrets, "password", matches.get_flag("password-stdin"))?)?;
    let request = SetupRequest {
        token: token.as_str().to_owned(),
        email: text(matches, "email").unwrap_or_default(),
        password: password.as_str().to_owned(),
        display_name: text(matches, "display-name").unwrap_or_default(),
        device_name: text(matches, "device-name").unwrap_or_else(built_in::machine_name),
    };
    let client = Client::connect_to_log_in(server, sessions.clone(), &told).await?.within(trace::of_environment());
    let place = Kept::choose(matches, &sessions).await?;
    client.set_up(&request, &place.place).await?;
    check_heads(&client, &sessions, false).await?;
    output::note(&format!("set up {server}; logged in as {}{place}", request.email));
    Ok(())
}

/// Where a session is kept, as it is told.
struct Kept {
    place: Place,
    /// Why it is not in the keychain, where nobody wished for the file.
    instead: Option<KeychainError>,
}

impl Kept {
    async fn choose(matches: &ArgMatches, sessions: &SessionStore) -> Result<Self, Failure> {
        let (place, instead) = sessions.choose(built_in::wish(matches)).await?;
        Ok(Self { place, instead })
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "; the session is kept in {}", self.place)?;
        match &self.instead {
            Some(why) => write!(f, ", since {why}"),
            None => Ok(()),
        }
    }
}

/// Looks at the audit logs that somebody may read who has just logged in. Nobody stays logged in to a server that shows another
/// log than before.
async fn check_heads(client: &Client, sessions: &SessionStore, anew: bool) -> Result<(), Failure> {
    let checked = audit_commands::check_heads(client, sessions, anew).await;
    if checked.is_err() && client.log_out().await.is_err() {
        client.forget_session().await?;
        output::note(
            "warning: the server did not end the session: end it by `sys session list` and `revoke` when you trust it again",
        );
    }
    checked
}

/// Ends the session.
pub(crate) async fn logout(server: &Endpoint, sessions: SessionStore) -> Result<(), Failure> {
    let client = Client::connect(server, sessions.clone()).await?.within(trace::of_environment());
    if client.session().await?.is_none() {
        // A login that was cut off may have left its tokens; the lock takes them away.
        drop(sessions.lock().await?);
        output::note(&format!("nobody is logged in to {server}"));
        return Ok(());
    }
    client.log_out().await?;
    output::note(&format!("logged out of {server}"));
    Ok(())
}

/// Shows who is logged in.
pub(crate) async fn whoami(server: &Endpoint, sessions: SessionStore, format: Format) -> Result<(), Failure> {
    let client = Client::connect(server, sessions.clone()).await?.within(trace::of_environment());
    let who = client.who_am_i().await?;
    let at =
        At { server, place: sessions.place()?, device: client.session().await?.and_then(|session| session.device) };
    Ok(output::value(&for_people(&who, &at), &for_programs(&who, &at), format)?)
}

fn text(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_one::<String>(name).cloned()
}

fn required(name: &'static str, secret: Option<Zeroizing<String>>) -> Result<Zeroizing<String>, SecretError> {
    secret.ok_or(SecretError::NoTerminal { name })
}

/// Where somebody is logged in, and what with.
struct At<'a> {
    server: &'a Endpoint,
    place: Option<Place>,
    device: Option<Fingerprint>,
}

fn for_people(who: &WhoAmI, at: &At<'_>) -> String {
    let verified = if who.verified { "" } else { " (not verified)" };
    let name = plain::line(&format!("{} <{}>{verified}", who.display_name, who.email));
    let mut lines = vec![
        name.trim().to_owned(),
        format!("account  {}", plain::line(&who.account_id)),
        format!("session  {}", plain::line(&who.session_id)),
        format!("server   {}", at.server),
    ];
    lines.extend(at.place.as_ref().map(|place| format!("kept in  {place}")));
    lines.extend(at.device.map(|device| format!("bound to {device}")));
    lines.extend(who.bindings.iter().map(|binding| format!("role     {}", plain::line(&role(binding)))));
    if who.bindings.is_empty() {
        lines.push("role     none".to_owned());
    }
    lines.join("\n")
}

fn role(binding: &Binding) -> String {
    match (binding.org_id.as_str(), binding.project_id.as_str()) {
        ("", "") => format!("{} of the server", binding.role),
        (org, "") => format!("{} in {org}", binding.role),
        (org, project) => format!("{} in {org} / {project}", binding.role),
    }
}

fn for_programs(who: &WhoAmI, at: &At<'_>) -> Json {
    let bindings = who
        .bindings
        .iter()
        .map(|binding| json!({ "role": binding.role, "org_id": binding.org_id, "project_id": binding.project_id }));
    json!({
        "account_id": who.account_id,
        "email": who.email,
        "display_name": who.display_name,
        "verified": who.verified,
        "session_id": who.session_id,
        "server": at.server.as_str(),
        "session_kept_in": at.place.as_ref().map(Place::name),
        "device_key": at.device.map(|device| device.to_string()),
        "bindings": bindings.collect::<Vec<_>>(),
    })
}
