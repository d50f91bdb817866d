//! A server of notes in memory, with the wire's framing and nothing of the real one's rules: what a client needs to be
//! seen by.

use super::audit::Log;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value as Json, json};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};
use sys_client::{
    Code,
    auth::{self, Binding, LoginRequest, RefreshRequest, SetupRequest, StepUpRequest, TokenPair, WhoAmI},
    descriptors::GET_DESCRIPTORS,
};
use sys_contract::{Origin, SourceFile};
use sys_edge::{Bind, Listener};
use tower::service_fn;

/// Records on one page of a list.
const PAGE: usize = 2;

pub(crate) struct Server {
    pub(crate) url: String,
    notes: Arc<Notes>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Debug)]
struct Notes {
    pool: DescriptorPool,
    records: Mutex<Vec<Json>>,
    ended: Mutex<bool>,
    /// The audit log of an org; without one there is no AuditService.
    log: Mutex<Option<Log>>,
    /// Whether somebody has shown his password again.
    proven: Mutex<bool>,
    /// Which pair of tokens is the newest. A refresh token of another one ends all sessions.
    pair: Mutex<usize>,
    /// Whether access tokens end when they are issued.
    short: Mutex<bool>,
    /// What the last request said of the trace that it is in.
    traced: Mutex<Option<(String, String)>>,
}

/// A refusal: its code, the field at fault, what to do. Without a field, what to do is to show the password again.
struct No(Code, Option<&'static str>, Option<&'static str>);

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_at(Bind::at("127.0.0.1:0".parse().expect("an address")))
    }

    pub(crate) fn start_at(bind: Bind) -> Self {
        let text = include_str!("../../../../modules/mod-notes/notes/v1/notes.proto");
        let text = text.replace("{serve: DELETE}", "{serve: DELETE step_up: {}}");
        let source = SourceFile { path: "notes/v1/notes.proto".to_owned(), text };
        let contract = sys_contract::load("mod-notes", Origin::Uploaded, &[source]).expect("a contract");
        let notes = Arc::new(Notes {
            pool: contract.pool,
            records: Mutex::default(),
            ended: Mutex::default(),
            proven: Mutex::default(),
            pair: Mutex::default(),
            short: Mutex::default(),
            traced: Mutex::default(),
            log: Mutex::default(),
        });
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let scheme = if bind.tls.is_some() { "https" } else { "http" };
        let listener = runtime.block_on(Listener::bind(bind)).expect("bind");
        let url = format!("{scheme}://{}", listener.local_addr());
        let shared = Arc::clone(&notes);
        let service = service_fn(move |request| serve(Arc::clone(&shared), request));
        runtime.spawn(listener.serve(service, std::future::pending()));
        Self { url, notes, _runtime: runtime }
    }

    pub(crate) fn end_sessions(&self) {
        *self.notes.ended.lock().expect("no poison") = true;
    }

    /// Lets each access token be good for one call.
    pub(crate) fn shorten_tokens(&self) {
        *self.notes.short.lock().expect("no poison") = true;
    }

    /// What the last request said of the trace that it is in: `traceparent` and `tracestate`.
    pub(crate) fn traced(&self) -> Option<(String, String)> {
        self.notes.traced.lock().expect("no poison").clone()
    }

    /// How often the tokens were refreshed.
    pub(crate) fn refreshes(&self) -> usize {
        *self.notes.pair.lock().expect("no poison")
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Option<Log>> {
        self.notes.log.lock().expect("no poison")
    }

    pub(crate) fn add_note(&self, title: &str) {
        self.notes.records.lock().expect("no poison").push(json!({ "id": title, "title": title, "org_id": "org_1" }));
    }
}

impl Notes {
    fn answer(&self, path: &str, known: bool, message: &[u8]) -> Result<Vec<u8>, No> {
        let password = match path {
            auth::LOGIN => Some(LoginRequest::decode(message).expect("a login").password),
            auth::SETUP => {
                let setup = SetupRequest::decode(message).expect("a setup");
                Some(if setup.token == "once" { setup.password } else { String::new() })
            }
            _ => None,
        };
        let unknown = No(Code::Unauthenticated, None, None);
        match (path, password) {
            (_, Some(password)) if password == "right" => Ok(self.tokens().encode_to_vec()),
            (_, Some(_)) => Err(unknown),
            (auth::REFRESH, _) => self.refresh(message),
            (GET_DESCRIPTORS, _) => Ok(self.descriptors(known)),
            _ if !known => Err(unknown),
            (auth::WHO_AM_I, _) => Ok(who().encode_to_vec()),
            (auth::LOGOUT, _) => Ok(Vec::new()),
            (auth::STEP_UP, _) => self.step_up(message),
            _ if path.starts_with("sys.account.v1.AuditService/") => {
                let method = path.rsplit('/').next().unwrap_or_default();
                let log = self.log.lock().expect("no poison");
                log.as_ref().and_then(|log| log.answer(method, message)).ok_or(No(Code::Unimplemented, None, None))
            }
            _ => self.note(path.rsplit('/').next().unwrap_or_default(), message),
        }
    }

    fn tokens(&self) -> TokenPair {
        let pair = *self.pair.lock().expect("no poison");
        let seconds = if *self.short.lock().expect("no poison") { 0 } else { 9_000_000_000 };
        TokenPair {
            access_token: named("access", pair),
            refresh_token: named("refresh", pair),
            access_expires_at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            account_id: "account_1".into(),
            session_id: "session_1".into(),
        }
    }

    fn refresh(&self, message: &[u8]) -> Result<Vec<u8>, No> {
        let given = RefreshRequest::decode(message).expect("a refresh").refresh_token;
        let mut pair = self.pair.lock().expect("no poison");
        let mut ended = self.ended.lock().expect("no poison");
        *ended |= given != named("refresh", *pair);
        if *ended {
            return Err(No(Code::Unauthenticated, None, None));
        }
        *pair += 1;
        drop(pair);
        Ok(self.tokens().encode_to_vec())
    }

    /// An access token may be older than the newest: it is good until it ends.
    fn knows(&self, token: Option<&HeaderValue>) -> bool {
        let newest = *self.pair.lock().expect("no poison");
        token.is_some_and(|token| (0..=newest).any(|pair| token == &format!("Bearer {}", named("access", pair))))
    }

    fn step_up(&self, message: &[u8]) -> Result<Vec<u8>, No> {
        if StepUpRequest::decode(message).expect("a password").password != "right" {
            return Err(No(Code::PermissionDenied, None, None));
        }
        *self.proven.lock().expect("no poison") = true;
        Ok(Vec::new())
    }

    /// One set for each module: one that everybody sees, and the notes for those who are known.
    fn descriptors(&self, known: bool) -> Vec<u8> {
        let sets = if known { vec![self.pool.encode_to_vec()] } else { Vec::new() };
        Descriptors { sets }.encode_to_vec()
    }

    fn note(&self, name: &str, message: &[u8]) -> Result<Vec<u8>, No> {
        let service = self.pool.get_service_by_name("notes.v1.NoteService").expect("the service");
        let method = service.methods().find(|method| method.name() == name).expect("a method");
        let request = DynamicMessage::decode(method.input(), message).expect("a request");
        let options = prost_reflect::SerializeOptions::new().use_proto_field_name(true);
        let request_json =
            request.serialize_with_options(serde_json::value::Serializer, &options).expect("a request in JSON");
        let mut records = self.records.lock().expect("no poison");
        let answer = match name {
            "CreateNote" => create(&mut records, &request_json)?,
            "ListNotes" => list(&records, &request_json),
            "GetNote" => found(&mut records, &request_json["id"])?.clone(),
            "UpdateNote" => update(&mut records, &request_json)?,
            _ => delete(&mut records, &request_json["id"], *self.proven.lock().expect("no poison"))?,
        };
        Ok(DynamicMessage::deserialize(method.output(), answer).expect("an answer").encode_to_vec())
    }
}

fn create(records: &mut Vec<Json>, request: &Json) -> Result<Json, No> {
    let mut note = request["note"].clone();
    if note["title"].is_null() {
        return Err(No(Code::InvalidArgument, Some("note.title"), Some("give it a title")));
    }
    note["id"] = format!("note_{}", records.len()).into();
    records.push(note.clone());
    Ok(note)
}

fn list(records: &[Json], request: &Json) -> Json {
    if request["org_id"] == "endless" {
        return json!({ "next_page_token": "again" });
    }
    let from: usize = request["page_token"].as_str().map_or(0, |token| token.parse().expect("our token"));
    let next = (from + PAGE < records.len()).then(|| (from + PAGE).to_string());
    let page: Vec<&Json> = records.iter().skip(from).take(PAGE).collect();
    json!({ "notes": page, "next_page_token": next })
}

fn found<'a>(records: &'a mut [Json], id: &Json) -> Result<&'a mut Json, No> {
    records.iter_mut().find(|note| note["id"] == *id).ok_or(No(Code::NotFound, None, None))
}

fn update(records: &mut [Json], request: &Json) -> Result<Json, No> {
    let note = found(records, &request["note"]["id"])?;
    for field in request["update_mask"].as_str().unwrap_or_default().split(',') {
        note[field] = request["note"][field].clone();
    }
    Ok(note.clone())
}

fn delete(records: &mut Vec<Json>, id: &Json, proven: bool) -> Result<Json, No> {
    if id == "guarded" && !proven {
        return Err(No(Code::PermissionDenied, None, Some("show it again")));
    }
    let refusals = BTreeMap::from([
        ("forbidden", Code::PermissionDenied),
        ("changed", Code::Aborted),
        ("often", Code::ResourceExhausted),
        ("broken", Code::Internal),
    ]);
    if let Some(code) = refusals.get(id.as_str().unwrap_or_default()) {
        return Err(No(*code, None, None));
    }
    found(records, id)?;
    records.retain(|note| note["id"] != *id);
    Ok(json!({}))
}

/// The token of a pair, such as `access`, then `access-1`.
fn named(token: &str, pair: usize) -> String {
    if pair == 0 { token.to_owned() } else { format!("{token}-{pair}") }
}

fn who() -> WhoAmI {
    let binding = Binding { role: "ADMIN".into(), org_id: "org_1".into(), project_id: String::new() };
    WhoAmI { email: "a@example.org".into(), verified: true, bindings: vec![binding], ..WhoAmI::default() }
}

async fn serve(
    notes: Arc<Notes>,
    request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let ended = *notes.ended.lock().expect("no poison");
    let token = request.headers().get("authorization").cloned();
    let line = |name| request.headers().get(name).and_then(|value| Some(value.to_str().ok()?.to_owned()));
    *notes.traced.lock().expect("no poison") =
        line("traceparent").map(|it| (it, line("tracestate").unwrap_or_default()));
    let framed = request.into_body().collect().await.expect("a whole request").to_bytes();
    let message = framed.get(5..).expect("a frame");
    let refused = ended && token.is_some();
    let answer = if refused {
        Err(No(Code::Unauthenticated, None, None))
    } else {
        notes.answer(&path, notes.knows(token.as_ref()), message)
    };
    let mut trailers = HeaderMap::new();
    let body = match answer {
        Ok(answer) => {
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let length = u32::try_from(answer.len()).expect("short").to_be_bytes();
            [&[0], length.as_slice(), &answer].concat()
        }
        Err(no) => {
            trailers.insert("grpc-status", HeaderValue::from(i32::from(no.0)));
            let message = if no.1.is_some() { "the request is not valid" } else { "no" };
            trailers.insert("grpc-message", HeaderValue::from_static(message));
            let details = no.details();
            trailers.insert("grpc-status-details-bin", details.parse().expect("base64"));
            Vec::new()
        }
    };
    let body = Full::new(Bytes::from(body)).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

impl No {
    /// A google.rpc.Status in base64, with the reason, the field and what to do, where they are there.
    fn details(&self) -> String {
        let any =
            |name: &str, value: Vec<u8>| prost_types::Any { type_url: format!("type.googleapis.com/{name}"), value };
        let mut details = Vec::new();
        if let (None, Some(help)) = (self.1, self.2) {
            let metadata = BTreeMap::from([("help".to_owned(), help.to_owned())]);
            let info = ErrorInfo { reason: "STEP_UP_REQUIRED".to_owned(), domain: "sys".to_owned(), metadata };
            details.push(any("google.rpc.ErrorInfo", info.encode_to_vec()));
        }
        if let Some(field) = self.1 {
            let wrong = BadField { field: field.to_owned(), description: "is empty".to_owned() };
            details.push(any("google.rpc.BadRequest", BadRequest { fields: vec![wrong] }.encode_to_vec()));
            let help = self.2.map(|help| ("help".to_owned(), help.to_owned()));
            let info = ErrorInfo {
                reason: "INVALID_FIELDS".to_owned(),
                domain: "sys".to_owned(),
                metadata: help.into_iter().collect(),
            };
            details.push(any("google.rpc.ErrorInfo", info.encode_to_vec()));
        }
        data_encoding::BASE64_NOPAD.encode(&Status { details }.encode_to_vec())
    }
}

#[derive(Clone, PartialEq, Message)]
struct Descriptors {
    #[prost(bytes = "vec", repeated, tag = "1")]
    sets: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    fields: Vec<BadField>,
}

#[derive(Clone, PartialEq, Message)]
struct BadField {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}
