//! The service around a service: what is answered before it, and what is added to its answers.

use super::{
    Hygiene, Origins, SecurityTxt, harden,
    origins::{Asker, is_safe},
};
use crate::{
    Connection, answers,
    host::{is_no_domain, named},
    landing,
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, uri::Authority};
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;
use std::{
    future::Ready,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower::Service;

/// What a page of a configured website may send: a token, and what gRPC-Web and Connect speak with.
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, connect-protocol-version, connect-timeout-ms, grpc-timeout, x-grpc-web, x-user-agent",
);
/// Calls are POST; Connect asks with GET where nothing changes.
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
/// How it is told how its call ended.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static("grpc-status, grpc-message, grpc-status-details-bin");
/// Two hours, in seconds: no browser keeps the answer to a preflight for longer.
const PREFLIGHT_MAX_AGE_S: HeaderValue = HeaderValue::from_static("7200");
/// A preflight, and what the page wants to do.
const PREFLIGHT_VARY: HeaderValue =
    HeaderValue::from_static("origin, access-control-request-method, access-control-request-headers");
const SECURITY_TXT: &str = "/.well-known/security.txt";
const LANDING: &str = "/";

/// The settings that hold now, for all services that stand around another with them. Clones share them.
#[derive(Debug, Clone)]
pub struct Current(Arc<ArcSwap<Prepared>>);

impl Current {
    /// These, until they are changed.
    pub fn new(hygiene: Hygiene) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Prepared::new(hygiene))))
    }

    /// From the next request on, these hold.
    pub fn change(&self, hygiene: Hygiene) {
        self.0.store(Arc::new(Prepared::new(hygiene)));
    }

    /// A service that answers as these settings say, and has everything else answered by this one.
    pub fn around<S>(&self, service: S) -> Hygienic<S> {
        Hygienic { current: self.clone(), service }
    }
}

/// A service whose answers are safe to give to browsers: see [`Hygiene::around`]. It reads [`Connection`] from the extensions, as a
/// listener leaves it there.
#[derive(Debug, Clone)]
pub struct Hygienic<S> {
    current: Current,
    service: S,
}

/// The settings, as they are needed for each request.
#[derive(Debug)]
struct Prepared {
    hsts: Option<HeaderValue>,
    origins: Origins,
    security_txt: Option<SecurityTxt>,
}

/// What is added to the answer to a request.
#[derive(Debug)]
struct Added {
    hsts: Option<HeaderValue>,
    /// The website whose page may read it.
    origin: Option<HeaderValue>,
    /// Whether answers differ by website.
    varies: bool,
}

impl<S, B, R> Service<Request<B>> for Hygienic<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<Either<R, Full<Bytes>>>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (added, own) = self.current.0.load().look(&request);
        let answer = match own {
            Some(response) => Answer::Own { ready: std::future::ready(response) },
            None => Answer::Service { future: self.service.call(request) },
        };
        Answering { added: Some(added), answer }
    }
}

impl Prepared {
    fn new(hygiene: Hygiene) -> Self {
        let Hygiene { hsts, cors_origins, security_txt } = hygiene;
        Self { hsts: hsts.value(), origins: cors_origins, security_txt }
    }

    /// What is added to the answer, and the answer itself where the service is not asked.
    fn look<B>(&self, request: &Request<B>) -> (Added, Option<Response<Full<Bytes>>>) {
        let host = named(request);
        let connection = request.extensions().get::<Connection>();
        let is_tls = connection.is_some_and(|connection| connection.tls.is_some());
        let asker = self.origins.asker(request, host.as_ref(), is_tls);
        let origin = match &asker {
            Asker::Configured(origin) => Some(origin.clone()),
            Asker::NoPage | Asker::OurPage | Asker::OtherPage => None,
        };
        let hsts = self.hsts.as_ref().filter(|_| is_tls && host.as_ref().is_some_and(is_domain)).cloned();
        let added = Added { hsts, origin, varies: !self.origins.is_empty() };
        (added, self.own(request, &asker, connection))
    }

    fn own<B>(
        &self,
        request: &Request<B>,
        asker: &Asker,
        connection: Option<&Connection>,
    ) -> Option<Response<Full<Bytes>>> {
        let method = request.method();
        if is_preflight(request) {
            return Some(preflight(asker));
        }
        if *asker == Asker::OtherPage && !is_safe(method) {
            return Some(refusal());
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            return None;
        }
        let response = match request.uri().path() {
            SECURITY_TXT => answers::text(StatusCode::OK, self.security_txt.as_ref()?.text().to_owned()),
            LANDING => landing::answer(connection?.tls.as_deref()),
            _ => return None,
        };
        Some(answers::to(method, response))
    }
}

impl Added {
    fn to<R>(self, mut response: Response<R>) -> Response<R> {
        let headers = response.headers_mut();
        harden(headers);
        if let Some(hsts) = self.hsts {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts);
        }
        // Whoever made the answer has no say in this.
        for name in [header::ACCESS_CONTROL_ALLOW_ORIGIN, header::ACCESS_CONTROL_ALLOW_CREDENTIALS] {
            headers.remove(name);
        }
        if self.varies {
            headers.append(header::VARY, HeaderValue::from_name(header::ORIGIN));
        }
        if let Some(origin) = self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
        }
        response
    }
}

fn is_domain(host: &Authority) -> bool {
    !is_no_domain(host.host())
}

/// A question of a browser whether a page may ask (Fetch, section 3.2.2).
fn is_preflight<B>(request: &Request<B>) -> bool {
    let has = |name: HeaderName| request.headers().contains_key(name);
    request.method() == Method::OPTIONS && has(header::ORIGIN) && has(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight(asker: &Asker) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let is_configured = matches!(asker, Asker::Configured(_));
    *response.status_mut() = if is_configured { StatusCode::NO_CONTENT } else { StatusCode::FORBIDDEN };
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(header::VARY, PREFLIGHT_VARY);
    if is_configured {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE_S);
    }
    response
}

/// A call by a page that nobody let in. The page does not read this; who looks into the browser's network tab does.
fn refusal() -> Response<Full<Bytes>> {
    let text = "a page of another website made this call, and its origin is not among those that may; \
                the operator of this server can add it to the CORS origins\n";
    answers::text(StatusCode::FORBIDDEN, text)
}

pin_project! {
    /// An answer that is on its way.
    #[derive(Debug)]
    pub struct Answering<F> {
        added: Option<Added>,
        #[pin]
        answer: Answer<F>,
    }
}

pin_project! {
    #[project = AnswerProjection]
    #[derive(Debug)]
    enum Answer<F> {
        Service { #[pin] future: F },
        Own { #[pin] ready: Ready<Response<Full<Bytes>>> },
    }
}

impl<F, R, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<Either<R, Full<Bytes>>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match this.answer.project() {
            AnswerProjection::Service { future } => ready!(future.poll(context))?.map(Either::Left),
            AnswerProjection::Own { ready } => ready!(ready.poll(context)).map(Either::Right),
        };
        Poll::Ready(Ok(match this.added.take() {
            Some(added) => added.to(response),
            None => response,
        }))
    }
}
