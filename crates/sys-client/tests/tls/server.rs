//! What the tests connect to: a listener of our own, with certificates of authorities made on the spot, which notes what arrives.

use bytes::Bytes;
use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        Name, RData, Record,
        rdata::{
            HTTPS,
            svcb::{EchConfigList, SVCB, SvcParamKey, SvcParamValue},
        },
    },
};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use sys_client::{
    Client, ClientError, Endpoint, Fingerprint, KnownServers, SessionStore, Told, Wish,
    auth::{self, LoginRequest, TokenPair, WhoAmI},
};
use sys_edge::{
    AllowedHosts, Bind, Connection, Listener,
    ech::{EchKey, config_list},
    tls::{Ech, Group, Identity, Tls},
};
use tempfile::TempDir;
use tower::service_fn;

/// The server's name. No DNS knows it: the tests say where it is.
pub(crate) const NAME: &str = "sys.example.org";
/// What stands in the clear where its name is hidden.
pub(crate) const PUBLIC_NAME: &str = "public.example.org";

/// Somebody who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.0.der())
    }

    /// A server's certificate, with the authority's own behind it, and its key; valid in these years.
    pub(crate) fn certificate(&self, names: &[&str], years: (i32, i32)) -> (String, KeyPair) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem() + &self.0.pem(), key)
    }

    pub(crate) fn identity(&self, names: &[&str], years: (i32, i32)) -> Identity {
        let (chain, key) = self.certificate(names, years);
        Identity::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).expect("an identity")
    }
}

/// What arrived with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) certificate: Option<Fingerprint>,
    pub(crate) group: Group,
    pub(crate) ech: Ech,
}

#[derive(Debug, Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    /// What the record of the server's name says.
    ech: Mutex<Option<Vec<u8>>>,
    questions: Mutex<Vec<Name>>,
    /// Whether it is no DNS server.
    is_mute: AtomicBool,
}

/// A server, and the directory of somebody who talks to it.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) endpoint: Endpoint,
    pub(crate) tls: Tls,
    state: Arc<State>,
    pub(crate) directory: Arc<TempDir>,
}

impl Server {
    /// Shows these to whoever comes, under [`NAME`].
    pub(crate) async fn start(identities: Vec<Identity>) -> Self {
        let tls = Tls::new().expect("TLS");
        tls.show(identities);
        let hosts = AllowedHosts::of([NAME, PUBLIC_NAME, "127.0.0.1"]);
        let bind = Bind {
            tls: Some(tls.clone()),
            allowed_hosts: hosts,
            ..Bind::at("127.0.0.1:0".parse().expect("an address"))
        };
        let listener = Listener::bind(bind).await.expect("bound");
        let addr = listener.local_addr();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let service = service_fn(move |request| serve(Arc::clone(&shared), request));
        tokio::spawn(listener.serve(service, std::future::pending()));
        let endpoint = endpoint(NAME, addr);
        Self { addr, endpoint, tls, state, directory: Arc::new(tempfile::tempdir().expect("a directory")) }
    }

    /// With a good certificate of this authority.
    pub(crate) async fn of(authority: &Authority) -> Self {
        Self::start(vec![authority.identity(&[NAME, PUBLIC_NAME], (2020, 2100))]).await
    }

    /// Opens what is sealed for this key, and tells it in the zone.
    pub(crate) fn show_ech(&self, keys: &[EchKey]) {
        self.tls.set_ech(keys).expect("keys");
        self.publish(Some(config_list(&keys.iter().collect::<Vec<_>>())));
    }

    pub(crate) fn publish(&self, list: Option<Vec<u8>>) {
        *self.state.ech.lock().expect("no poison") = list;
    }

    /// From now on it answers no questions of DNS.
    pub(crate) fn fall_mute(&self) {
        self.state.is_mute.store(true, Ordering::SeqCst);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().expect("no poison").clone()
    }

    /// What arrived last at this path.
    pub(crate) fn last(&self, path: &str) -> Seen {
        self.seen().into_iter().rfind(|seen| seen.path == path).expect("a request")
    }

    pub(crate) fn questions(&self) -> Vec<Name> {
        self.state.questions.lock().expect("no poison").clone()
    }

    pub(crate) fn store(&self) -> SessionStore {
        SessionStore::new(self.directory.path())
    }

    pub(crate) fn servers(&self) -> KnownServers {
        KnownServers::new(self.store())
    }

    /// Connects as somebody who says that it is on this machine, and this of it.
    pub(crate) async fn trust(&self, told: Told) -> Result<Client, ClientError> {
        Client::connect_to_trust(&self.endpoint, self.store(), &here(told)).await
    }

    pub(crate) async fn connect(&self) -> Result<Client, ClientError> {
        Client::connect(&self.endpoint, self.store()).await
    }

    pub(crate) async fn log_in(&self, told: Told) -> Client {
        let client = Client::connect_to_log_in(&self.endpoint, self.store(), &here(told)).await.expect("connected");
        let (place, _) = self.store().choose(Wish::File).await.expect("a place");
        let request =
            LoginRequest { email: "a@example.org".into(), password: "right".into(), device_name: String::new() };
        client.log_in(&request, &place).await.expect("logged in");
        client
    }
}

pub(crate) fn endpoint(name: &str, addr: SocketAddr) -> Endpoint {
    format!("https://{name}:{}", addr.port()).parse().expect("an endpoint")
}

pub(crate) fn here(told: Told) -> Told {
    Told { address: Some("127.0.0.1".parse().expect("an address")), ..told }
}

pub(crate) fn pinned(authority: &Authority) -> Told {
    Told { authority: Some(authority.fingerprint()), ..Told::default() }
}

async fn serve(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let tls = request.extensions().get::<Connection>().and_then(|connection| connection.tls.clone()).expect("TLS");
    let authorization = request.headers().get("authorization").map(|value| value.to_str().expect("ASCII").to_owned());
    state.seen.lock().expect("no poison").push(Seen {
        path: path.clone(),
        authorization,
        certificate: tls.client_certificate.map(|hash| Fingerprint(hash.0)),
        group: tls.group,
        ech: tls.ech,
    });
    let body = request.into_body().collect().await.expect("a whole request").to_bytes();
    let (kind, body, trailers) = match path.as_str() {
        "dns-query" if !state.is_mute.load(Ordering::SeqCst) => {
            ("application/dns-message", state.zone(&body).into(), None)
        }
        _ => {
            let (answer, trailers) = called(&path);
            ("application/grpc", answer, Some(Ok(trailers)))
        }
    };
    let trailers = async move { trailers };
    let mut response = Response::new(Full::new(body).with_trailers(trailers));
    response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
    Ok(response)
}

/// An answer in gRPC's framing.
fn called(path: &str) -> (Bytes, HeaderMap) {
    let answer = match path {
        auth::LOGIN | auth::REFRESH => TokenPair {
            access_token: "access".into(),
            refresh_token: "refresh".into(),
            access_expires_at: Some(prost_types::Timestamp { seconds: 9_000_000_000, nanos: 0 }),
            account_id: "account_1".into(),
            session_id: "session_1".into(),
        }
        .encode_to_vec(),
        auth::WHO_AM_I => WhoAmI { account_id: "account_1".into(), ..WhoAmI::default() }.encode_to_vec(),
        _ => Vec::new(),
    };
    let length = u32::try_from(answer.len()).expect("short").to_be_bytes();
    let trailers = HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from_static("0"))]);
    (Bytes::from([&[0], length.as_slice(), &answer].concat()), trailers)
}

impl State {
    fn zone(&self, question: &[u8]) -> Vec<u8> {
        let question = Message::from_vec(question).expect("a question");
        let name = question.queries.first().expect("one").name().clone();
        self.questions.lock().expect("no poison").push(name.clone());
        let mut answer = question.clone();
        answer.metadata.message_type = MessageType::Response;
        match self.ech.lock().expect("no poison").clone() {
            Some(list) => {
                let parameters = vec![(SvcParamKey::EchConfigList, SvcParamValue::EchConfigList(EchConfigList(list)))];
                let target = Name::from_ascii(format!("{NAME}.")).expect("a name");
                let data = RData::HTTPS(HTTPS(SVCB::new(1, target, parameters)));
                answer.add_answer(Record::from_rdata(name, 300, data));
            }
            None => answer.metadata.response_code = ResponseCode::NXDomain,
        }
        answer.to_vec().expect("an answer")
    }
}
