//! `trust` and `status`: whom to believe that a server is the right one, and how the connection to it is protected.

use crate::{
    built_in,
    failure::Failure,
    output::{self, Format},
    plain, trace,
};
use clap::ArgMatches;
use serde_json::{Value as Json, json};
use sys_client::{Authority, Client, Ech, Endpoint, KnownServer, KnownServers, Protection, SessionStore, Told};

/// Connects as it is told to, and keeps what it was told if that led to the server.
pub(crate) async fn trust(matches: &ArgMatches, server: &Endpoint, sessions: SessionStore) -> Result<(), Failure> {
    if server.server_name().is_none() {
        return Err(nothing_to_trust(server));
    }
    let client = Client::connect_to_trust(server, sessions.clone(), &told(matches, server)?)
        .await?
        .within(trace::of_environment());
    if let Some(protection) = client.protection() {
        let known = KnownServers::new(sessions).of(server)?;
        output::note(&format!("{server} is the right one, by the word of {}", protection.vouched_by));
        output::note(&format!("its name is {}", name_seen(protection.ech, &known)));
    }
    Ok(())
}

/// What is said of a server, where it shows a certificate.
pub(crate) fn told(matches: &ArgMatches, server: &Endpoint) -> Result<Told, Failure> {
    let told = built_in::told(matches);
    let is_said = told.authority.is_some() || told.address.is_some();
    if is_said && server.server_name().is_none() { Err(nothing_to_trust(server)) } else { Ok(told) }
}

fn nothing_to_trust(server: &Endpoint) -> Failure {
    let what = format!("`{server}` shows no certificate, so there is nothing to trust");
    Failure::Usage(
        what,
        "write https://, or leave --ca and --at out: this computer needs no trust in itself".to_owned(),
    )
}

/// Lists the servers that something is kept of.
pub(crate) fn list(sessions: SessionStore, format: Format) -> Result<(), Failure> {
    let known = KnownServers::new(sessions).list()?;
    let people: Vec<String> = known.iter().map(for_people).collect();
    let people = if people.is_empty() { "nothing is kept of any server".to_owned() } else { people.join("\n\n") };
    let programs: Vec<Json> = known.iter().map(for_programs).collect();
    Ok(output::value(&people, &json!({ "servers": programs }), format)?)
}

/// Forgets a server.
pub(crate) async fn remove(server: &Endpoint, sessions: SessionStore) -> Result<(), Failure> {
    let was_known = KnownServers::new(sessions).remove(server).await?;
    let what = if was_known { "is forgotten" } else { "was not known" };
    output::note(&format!("{server} {what}"));
    Ok(())
}

/// Shows how the connection to a server is protected.
pub(crate) async fn status(server: &Endpoint, sessions: SessionStore, format: Format) -> Result<(), Failure> {
    let client = Client::connect(server, sessions.clone()).await?.within(trace::of_environment());
    let Some(protection) = client.protection() else {
        let people = format!("server       {server}\nencryption   none: the connection does not leave this computer");
        let programs = json!({ "server": server.as_str(), "tls": null });
        return Ok(output::value(&people, &programs, format)?);
    };
    let known = KnownServers::new(sessions).of(server)?;
    let is_logged_in = client.session().await?.is_some();
    let people = status_for_people(server, &protection, &known, is_logged_in);
    Ok(output::value(&people, &status_for_programs(server, &protection, &known), format)?)
}

fn status_for_people(server: &Endpoint, protection: &Protection, known: &KnownServer, is_logged_in: bool) -> String {
    let group = &protection.group;
    let encryption = if protection.is_post_quantum {
        format!("TLS 1.3 with {group}, which also holds against a quantum computer")
    } else {
        format!("TLS 1.3 with {group}, which does not hold against a quantum computer")
    };
    let device = match (protection.device, is_logged_in) {
        (Some(device), _) => format!("{device}; without it the tokens of your session are worth nothing"),
        (None, true) => "none: the server did not ask for one when you logged in".to_owned(),
        (None, false) => "none: nobody is logged in".to_owned(),
    };
    let mut lines = vec![
        format!("server       {server}"),
        format!("encryption   {encryption}"),
        format!("certificate  checked, by the word of {}", protection.vouched_by),
        format!("name         {}", name_seen(protection.ech, known)),
        format!("device key   {device}"),
    ];
    lines.extend(known.address.map(|address| format!("address      {address}, as you said, and not what DNS says")));
    lines.join("\n")
}

/// Whether the network sees the name of a server.
fn name_seen(ech: Ech, known: &KnownServer) -> &'static str {
    match (ech, known.ech.configs.is_some()) {
        (Ech::Accepted, _) => "hidden from the network (ECH)",
        (Ech::NoKey, true) => "seen by the network this once; from the next connection on it is hidden (ECH)",
        (Ech::NoKey, false) => "seen by the network: the server has told no key to hide it with (ECH)",
        (Ech::Address, _) => "an address, which the network sees",
    }
}

fn status_for_programs(server: &Endpoint, protection: &Protection, known: &KnownServer) -> Json {
    let authority = match protection.vouched_by {
        Authority::Public => None,
        Authority::Private(fingerprint) => Some(fingerprint.to_string()),
    };
    json!({
        "server": server.as_str(),
        "address": known.address,
        "tls": {
            "version": "TLS 1.3",
            "group": protection.group,
            "post_quantum": protection.is_post_quantum,
            "ech_accepted": protection.ech == Ech::Accepted,
            "ech_known": known.ech.configs.is_some(),
            "ech_required": known.ech.required,
            "private_authority": authority,
            "device_key": protection.device.map(|device| device.to_string()),
        },
    })
}

fn for_people(known: &KnownServer) -> String {
    let authorities: Vec<String> = known.fingerprints().map(|fingerprint| fingerprint.to_string()).collect();
    let authorities = if authorities.is_empty() {
        "the public ones".to_owned()
    } else {
        format!("{}, and the public ones", authorities.join(", "))
    };
    let keys = if known.ech.configs.is_some() { "known" } else { "none known" };
    let required = if known.ech.required { ", and no connection without" } else { "" };
    let mut lines = vec![
        plain::line(known.endpoint.as_str()),
        format!("  authorities  {authorities}"),
        format!("  ECH keys     {keys}{required}"),
    ];
    lines.extend(known.address.map(|address| format!("  address      {address}")));
    lines.join("\n")
}

fn for_programs(known: &KnownServer) -> Json {
    json!({
        "server": known.endpoint.as_str(),
        "authorities": known.fingerprints().map(|fingerprint| fingerprint.to_string()).collect::<Vec<_>>(),
        "address": known.address,
        "ech_required": known.ech.required,
        "ech_configs": known.ech.configs.as_ref().map(ToString::to_string),
    })
}
