//! A handshake: what the library asks in its course, and how it gets a turn for each of its steps.
//!
//! What must never happen here: a panic in a callback, which would end the process, or a name in a log line.

use super::{
    Facts, Identity, Protocol, State, TlsError,
    select::{self, CHALLENGE, DOT, HTTP2, HTTP11, Offered},
};
use boring::{
    error::ErrorStack,
    ex_data::Index,
    ssl::{
        AlpnError, ClientHello, ExtensionType, NameType, SelectCertError, SniError, Ssl, SslAlert, SslContextRef,
        SslRef, SslVerifyMode,
    },
};
use std::{error::Error, fmt::Debug, net::IpAddr, sync::LazyLock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_boring::{HandshakeError, SslStream, SslStreamBuilder};

/// What a connection is for, once its handshake is over.
#[derive(Debug)]
pub(crate) enum Accepted<T> {
    /// Requests.
    Requests(SslStream<T>, Facts),
    /// A certificate authority has seen what it came for, and nothing is served.
    Challenge(SslStream<T>),
}

/// What is found out in the course of a handshake; stands beside it in the library.
#[derive(Debug)]
struct Course {
    local: IpAddr,
    /// Whether the port is one for DNS.
    is_for_questions: bool,
    is_chosen: bool,
    is_challenge: bool,
    offers_ech: bool,
}

/// Where [`Course`] stands.
static COURSE: LazyLock<Result<Index<Ssl, Course>, ErrorStack>> = LazyLock::new(Ssl::new_ex_index);

fn course() -> Option<Index<Ssl, Course>> {
    COURSE.as_ref().ok().copied()
}

/// Shakes hands on this stream, whose own end is `local`.
pub(super) async fn accept<T>(context: &SslContextRef, stream: T, local: IpAddr) -> Result<Accepted<T>, TlsError>
where
    T: AsyncRead + AsyncWrite + Unpin + Debug,
{
    let index = course().ok_or(TlsError::Unexpected("index"))?;
    let stream = shake(context, stream, local, false).await?;
    let ssl = stream.ssl();
    let course = ssl.ex_data(index).ok_or(TlsError::Unexpected("course"))?;
    if course.is_challenge {
        return Ok(Accepted::Challenge(stream));
    }
    let protocol = match ssl.selected_alpn_protocol() {
        Some(HTTP2) => Protocol::Http2,
        // HTTP/2 over TLS is agreed on or not spoken (RFC 9113 section 3.2).
        _ => Protocol::Http11,
    };
    let facts = Facts::read(ssl, course.offers_ech, protocol)?;
    Ok(Accepted::Requests(stream, facts))
}

/// Shakes hands on a stream that is for DNS: with who offers `dot`, and with who offers nothing, as many clients do.
pub(super) async fn accept_questions<T>(
    context: &SslContextRef,
    stream: T,
    local: IpAddr,
) -> Result<SslStream<T>, TlsError>
where
    T: AsyncRead + AsyncWrite + Unpin + Debug,
{
    shake(context, stream, local, true).await
}

async fn shake<T>(
    context: &SslContextRef,
    stream: T,
    local: IpAddr,
    is_for_questions: bool,
) -> Result<SslStream<T>, TlsError>
where
    T: AsyncRead + AsyncWrite + Unpin + Debug,
{
    let index = course().ok_or(TlsError::Unexpected("index"))?;
    let mut ssl = Ssl::new(context).map_err(TlsError::Library)?;
    let course = Course { local, is_for_questions, is_chosen: false, is_challenge: false, offers_ech: false };
    ssl.set_ex_data(index, course);
    let accepted = SslStreamBuilder::new(ssl, stream).accept().await;
    accepted.map_err(|error| TlsError::Handshake(reason(&error)))
}

/// Why a handshake failed, in the library's own words for it.
fn reason<T: Debug>(error: &HandshakeError<T>) -> String {
    if let Some(error) = error.as_io_error() {
        return error.to_string();
    }
    let stack = error.source().and_then(Error::source).and_then(|source| source.downcast_ref::<ErrorStack>());
    let reasons: Vec<_> = stack.iter().flat_map(|stack| stack.errors()).filter_map(|error| error.reason()).collect();
    if reasons.is_empty() { "the peer has gone".to_owned() } else { reasons.join(", ") }
}

/// Chooses the identity. Called with the inner client hello where one could be opened, else with the outer one, whose name is the public
/// name.
pub(super) fn select_identity(state: &State, mut hello: ClientHello<'_>) -> Result<(), SelectCertError> {
    let offers_ech = hello.get_extension(ExtensionType::ENCRYPTED_CLIENT_HELLO).is_some() || hello.ssl().ech_accepted();
    let offered = hello
        .get_extension(ExtensionType::APPLICATION_LAYER_PROTOCOL_NEGOTIATION)
        // Behind the length of the list, which the library checks later.
        .and_then(|extension| extension.get(2..))
        .map(Offered::read)
        .unwrap_or_default();
    let name = hello.ssl().servername_raw(NameType::HOST_NAME);
    let name = name.map(|name| name.is_ascii().then(|| String::from_utf8_lossy(name).into_owned()));
    // What is no name (RFC 6066 section 3) is one that is not served. It is not the same as none, and no wildcard is good for it. Lists that
    // cannot be read the library has refused before.
    if name == Some(None) {
        return Ok(());
    }
    let name = name.flatten();
    let course = course().and_then(|index| hello.ssl_mut().ex_data_mut(index)).ok_or(SelectCertError::ERROR)?;
    course.offers_ech = offers_ech;
    let identity = if offered.only_challenge && !course.is_for_questions {
        course.is_challenge = true;
        let challenges = state.challenges.load();
        name.and_then(|name| challenges.get(&select::normal(&name)).cloned())
    } else {
        state.shown.load().pick(name.as_deref(), course.local).cloned()
    };
    // Without one, `has_identity` ends the handshake a little later, with the alert that is meant for this.
    let Some(identity) = identity else { return Ok(()) };
    course.is_chosen = true;
    show(&identity, offered, hello.ssl_mut()).map_err(|_| SelectCertError::ERROR)
}

fn show(identity: &Identity, offered: Offered, ssl: &mut SslRef) -> Result<(), ErrorStack> {
    ssl.set_ssl_context(identity.context())?;
    if offered.is_native() {
        // Any certificate will do, and none: what one may with it is decided where callers are known. That the client has its
        // key, the library sees to.
        ssl.set_custom_verify_callback(SslVerifyMode::PEER, |_| Ok(()));
    }
    Ok(())
}

/// Whether an identity was chosen. Called after [`select_identity`].
pub(super) fn has_identity(ssl: &mut SslRef, alert: &mut SslAlert) -> Result<(), SniError> {
    if course().and_then(|index| ssl.ex_data(index)).is_some_and(|course| course.is_chosen) {
        return Ok(());
    }
    *alert = SslAlert::UNRECOGNIZED_NAME;
    Err(SniError::ALERT_FATAL)
}

/// Chooses what is spoken, by our own preference. `acme-tls/1` is spoken for a challenge that is being shown, and for nothing else.
pub(super) fn select_protocol<'a>(ssl: &mut SslRef, offered: &'a [u8]) -> Result<&'a [u8], AlpnError> {
    let course = course().and_then(|index| ssl.ex_data(index));
    let ours: &[&[u8]] = match course {
        Some(course) if course.is_for_questions => &[DOT],
        Some(course) if course.is_challenge => &[CHALLENGE],
        _ => &[HTTP2, HTTP11],
    };
    let spoken = ours.iter().find_map(|our| select::protocols(offered).find(|name| name == our));
    spoken.ok_or(AlpnError::ALERT_FATAL)
}
