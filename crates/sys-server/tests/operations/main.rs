//! What an operator relies on, tried on the program itself: how it stops, what it counts, what it logs, how it is configured.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod command_line;
mod damage;
mod doctor;
mod drain;
mod edge;
mod import;
mod logs;
mod metrics;
mod mishaps;
mod private_memory;
mod server;
mod traces;
mod upkeep;

use serde_json::{Value, json};
use server::Server;

const LOGIN: &str = "sys.account.v1.AuthService/Login";
const REGISTER: &str = "sys.account.v1.AuthService/Register";
const SETUP: &str = "sys.account.v1.AuthService/Setup";
const LIST_NOTES: &str = "notes.v1.NoteService/ListNotes";
const PASSWORD: &str = "a passphrase of nobody";

/// The JSON of an answer, however its body was framed.
fn json_of(body: &str) -> Value {
    let whole = body.find('{').zip(body.rfind('}')).map(|(from, to)| &body[from..=to]);
    serde_json::from_str(whole.unwrap_or_default()).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// Makes the first superadmin; her access token.
fn superadmin(server: &Server) -> String {
    let setup =
        json!({"token": server.setup_token, "email": "root@example.org", "password": PASSWORD, "displayName": "Root"});
    let (status, body) = server.call(SETUP, None, &setup.to_string());
    assert_eq!(status, 200, "{body}");
    json_of(&body)["accessToken"].as_str().unwrap().to_owned()
}
