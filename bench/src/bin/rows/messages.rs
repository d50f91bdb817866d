//! The messages of both servers as far as they are used here, with the numbers of `notes.proto` and `sys/account/v1`.

/// A note.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Note {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub org_id: String,
    #[prost(string, tag = "3")]
    pub project_id: String,
    #[prost(string, tag = "4")]
    pub author_id: String,
    #[prost(string, tag = "5")]
    pub title: String,
    #[prost(bool, tag = "6")]
    pub published: bool,
    #[prost(string, tag = "7")]
    pub draft: String,
    #[prost(string, tag = "8")]
    pub etag: String,
}

/// `CreateNoteRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateNote {
    #[prost(message, optional, tag = "1")]
    pub note: Option<Note>,
}

/// `GetNoteRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetNote {
    #[prost(string, tag = "1")]
    pub id: String,
}

/// `ListNotesRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListNotes {
    #[prost(string, tag = "1")]
    pub org_id: String,
    #[prost(string, tag = "2")]
    pub project_id: String,
    #[prost(string, tag = "3")]
    pub filter: String,
    #[prost(string, tag = "4")]
    pub order_by: String,
    #[prost(int32, tag = "5")]
    pub page_size: i32,
    #[prost(string, tag = "6")]
    pub page_token: String,
}

/// `ListNotesResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Page {
    #[prost(message, repeated, tag = "1")]
    pub notes: Vec<Note>,
    #[prost(string, tag = "2")]
    pub next_page_token: String,
}

/// `LoginRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Login {
    #[prost(string, tag = "1")]
    pub email: String,
    #[prost(string, tag = "2")]
    pub password: String,
    #[prost(string, tag = "3")]
    pub device_name: String,
}

/// `TokenPair`, without the time that the access token ends.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TokenPair {
    #[prost(string, tag = "1")]
    pub access_token: String,
    #[prost(string, tag = "2")]
    pub refresh_token: String,
    #[prost(string, tag = "4")]
    pub account_id: String,
    #[prost(string, tag = "5")]
    pub session_id: String,
}

/// `WhoAmIResponse`, as far as it is read.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WhoAmI {
    #[prost(string, tag = "1")]
    pub account_id: String,
    #[prost(message, repeated, tag = "5")]
    pub bindings: Vec<Binding>,
}

/// A role held somewhere.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Binding {
    #[prost(string, tag = "1")]
    pub role: String,
    #[prost(string, tag = "2")]
    pub org_id: String,
    #[prost(string, tag = "3")]
    pub project_id: String,
}

/// `AssignRoleRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AssignRole {
    #[prost(string, tag = "1")]
    pub org_id: String,
    #[prost(string, tag = "2")]
    pub project_id: String,
    #[prost(string, tag = "3")]
    pub account_id: String,
    #[prost(int32, tag = "4")]
    pub role: i32,
}

/// Paths of the methods, the same on both servers.
pub mod path {
    pub const CREATE_NOTE: &str = "notes.v1.NoteService/CreateNote";
    pub const GET_NOTE: &str = "notes.v1.NoteService/GetNote";
    pub const LIST_NOTES: &str = "notes.v1.NoteService/ListNotes";
    pub const LOGIN: &str = "sys.account.v1.AuthService/Login";
    pub const WHO_AM_I: &str = "sys.account.v1.AuthService/WhoAmI";
    pub const ASSIGN_ROLE: &str = "sys.account.v1.MembershipService/AssignRole";
}
