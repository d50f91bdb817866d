//! The plain port: what is said without TLS, which is where TLS is.
//!
//! Browsers still ask port 80 first where they know no better, and a certificate authority asks there for a token (RFC 8555
//! section 8.3). Everything else is refused. What must never happen here: a service of anybody else. So this has a type of its
//! own, which is the only one that listens beyond loopback without TLS, and which takes no service; no body is read, and a redirect leads
//! nowhere but to one of our own hosts, as it was spelled to us.

use crate::{
    AllowedHosts, BindError, Drained, Limits, Listener, ProxySources, ServeError, answers, host, hygiene::harden,
    listener::Bind,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use std::{
    collections::HashMap,
    convert::Infallible,
    future::ready,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tower::service_fn;

/// Where a certificate authority asks for a token.
const CHALLENGES: &str = "/.well-known/acme-challenge/";
/// The port that a URL of `https` need not name.
const HTTPS_PORT: u16 = 443;

/// What to listen on in the clear, and where to send people.
#[derive(Debug, Clone)]
pub struct PlainBind {
    /// Any address; port 0 takes any free port.
    pub addr: SocketAddr,
    /// Bounds of the listener and its connections.
    pub limits: Limits,
    /// The hosts that it answers to, and redirects to.
    pub allowed_hosts: AllowedHosts,
    /// The networks whose connections begin with a PROXY header.
    pub proxy: ProxySources,
    /// Where TLS is.
    pub https_port: u16,
}

/// A plain port that nobody is answered on yet.
#[derive(Debug)]
pub struct Plain {
    listener: Listener,
    answers: Answers,
}

/// Tokens that a certificate authority may ask for, each with what it is answered. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct HttpChallenges(Arc<Mutex<HashMap<String, Bytes>>>);

#[derive(Debug, Clone)]
struct Answers {
    hosts: AllowedHosts,
    https_port: u16,
    challenges: HttpChallenges,
}

impl HttpChallenges {
    /// From now on, who asks for this token gets this key authorization. Both are no secrets.
    pub fn set(&self, token: impl Into<String>, key_authorization: impl Into<String>) {
        self.locked().insert(token.into(), Bytes::from(key_authorization.into()));
    }

    /// Nobody needs it any more.
    pub fn remove(&self, token: &str) {
        self.locked().remove(token);
    }

    fn get(&self, token: &str) -> Option<Bytes> {
        self.locked().get(token).cloned()
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Bytes>> {
        // A panic while it was held leaves whole entries.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plain {
    /// Takes the port.
    pub async fn bind(bind: PlainBind, challenges: HttpChallenges) -> Result<Self, BindError> {
        let (bind, answers) = bind.split(challenges);
        Ok(Self { listener: Listener::danger_bind_in_the_clear(bind).await?, answers })
    }

    /// Takes over a port that somebody else has bound, such as systemd; the address of `bind` is not looked at.
    pub fn over(socket: std::net::TcpListener, bind: PlainBind, challenges: HttpChallenges) -> Result<Self, BindError> {
        let (bind, answers) = bind.split(challenges);
        Ok(Self { listener: Listener::danger_over_in_the_clear(socket, bind)?, answers })
    }

    /// The bound address, with the port that the system chose where it was asked to.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Answers until `shutdown` comes back; then drains as [`Listener::serve`] does.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<Drained, ServeError> {
        let Self { listener, answers } = self;
        let service = service_fn(move |request| ready(Ok::<_, Infallible>(answers.answer(&request))));
        listener.serve(service, shutdown).await
    }
}

impl PlainBind {
    fn split(self, challenges: HttpChallenges) -> (Bind, Answers) {
        let Self { addr, limits, allowed_hosts, proxy, https_port } = self;
        let answers = Answers { hosts: allowed_hosts.clone(), https_port, challenges };
        (Bind { addr, limits, allowed_hosts, tls: None, proxy }, answers)
    }
}

impl Answers {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let (method, path) = (request.method(), request.uri().path());
        let mut response = if !matches!(*method, Method::GET | Method::HEAD) {
            not_allowed()
        } else if let Some(token) = path.strip_prefix(CHALLENGES) {
            self.challenge(token)
        } else {
            self.redirect(request)
        };
        harden(response.headers_mut());
        answers::to(method, response)
    }

    fn challenge(&self, token: &str) -> Response<Full<Bytes>> {
        let Some(key_authorization) = self.challenges.get(token) else {
            return answers::text(StatusCode::NOT_FOUND, "nobody waits for this token\n");
        };
        let mut response = answers::text(StatusCode::OK, key_authorization);
        let kind = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    fn redirect<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        // The host was admitted already; here it is taken from our own list, and the rest stands behind it.
        let host = host::named(request).and_then(|named| self.hosts.spelled(&named).map(str::to_owned));
        let location = host.zip(target(request.uri())).and_then(|(host, target)| {
            let url = match self.https_port {
                HTTPS_PORT => format!("https://{host}{target}"),
                port => format!("https://{host}:{port}{target}"),
            };
            HeaderValue::try_from(url).ok()
        });
        let Some(location) = location else {
            return answers::text(StatusCode::NOT_FOUND, "there is nothing here\n");
        };
        let mut response = answers::text(StatusCode::PERMANENT_REDIRECT, "it is at https://\n");
        response.headers_mut().insert(header::LOCATION, location);
        response
    }
}

/// What is asked for, from its first slash. `*` and other forms have none, and would change what is before them.
fn target(uri: &Uri) -> Option<&str> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    target.starts_with('/').then_some(target)
}

fn not_allowed() -> Response<Full<Bytes>> {
    let text = "this port sends people to https:// and takes nothing in; whatever was sent here crossed the network readable\n";
    let mut response = answers::text(StatusCode::METHOD_NOT_ALLOWED, text);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    // What was sent along is not read to its end.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(https_port: u16) -> Answers {
        let hosts = AllowedHosts::of(["Org.Example", "[2001:db8::1]"]);
        Answers { hosts, https_port, challenges: HttpChallenges::default() }
    }

    fn ask(answers: &Answers, method: Method, target: &str, host: &str) -> Response<Full<Bytes>> {
        let request = Request::builder().method(method).uri(target).header(header::HOST, host).body(()).unwrap();
        answers.answer(&request)
    }

    fn location(response: &Response<Full<Bytes>>) -> &str {
        response.headers().get(header::LOCATION).map_or("", |location| location.to_str().unwrap())
    }

    #[test]
    fn people_are_sent_to_our_own_host_and_to_no_other() {
        for (target, host, expect) in [
            ("/", "org.example", "https://Org.Example/"),
            ("/a?b=//c", "ORG.EXAMPLE:80", "https://Org.Example/a?b=//c"),
            ("//evil.example/%0d%0ax", "org.example", "https://Org.Example//evil.example/%0d%0ax"),
            ("/\\evil.example", "org.example", "https://Org.Example/\\evil.example"),
            ("http://org.example/a", "org.example", "https://Org.Example/a"),
            ("/", "[2001:db8::1]:80", "https://[2001:db8::1]/"),
            // The listener refuses these before; here they lead nowhere.
            ("/", "evil.example", ""),
            ("http://evil.example/", "org.example", ""),
            ("/", "org.example.evil.example", ""),
            ("/", "org.example@evil.example", ""),
            ("*", "org.example", ""),
        ] {
            for method in [Method::GET, Method::HEAD] {
                let response = ask(&answers(443), method, target, host);
                assert_eq!(location(&response), expect, "{target} {host}");
                assert_eq!(response.status(), if expect.is_empty() { 404 } else { 308 }, "{target} {host}");
            }
        }
        assert_eq!(location(&ask(&answers(8443), Method::GET, "/a", "org.example")), "https://Org.Example:8443/a");
    }

    #[test]
    fn a_token_is_answered_as_long_as_somebody_waits_for_it() {
        let answers = answers(443);
        let path = "/.well-known/acme-challenge/token_1";
        assert_eq!(ask(&answers, Method::GET, path, "org.example").status(), 404);
        answers.challenges.set("token_1", "token_1.thumbprint");
        let response = ask(&answers, Method::GET, path, "org.example");
        assert_eq!((response.status(), location(&response)), (StatusCode::OK, ""));
        assert_eq!(format!("{:?}", response.body()), format!("{:?}", Full::new(Bytes::from("token_1.thumbprint"))));
        for other in ["", "token_2", "token_1/", "../acme-challenge/token_1", "token%5f1"] {
            let path = format!("{CHALLENGES}{other}");
            let response = ask(&answers, Method::GET, &path, "org.example");
            assert_eq!((response.status(), location(&response)), (StatusCode::NOT_FOUND, ""), "{path}");
        }
        answers.challenges.remove("token_1");
        assert_eq!(ask(&answers, Method::GET, path, "org.example").status(), 404);
    }

    #[test]
    fn nothing_is_taken_in() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", "PROPFIND"] {
            let response = ask(&answers(443), method.parse().unwrap(), "/x", "org.example");
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert_eq!(response.headers()[header::ALLOW], "GET, HEAD");
            assert_eq!(response.headers()[header::CONNECTION], "close");
        }
    }
}
