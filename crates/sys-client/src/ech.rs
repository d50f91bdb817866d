//! Encrypted Client Hello (RFC 9849): how the name of a server is hidden from whoever watches the wire.
//!
//! A server tells its keys in the HTTPS record of its name (RFC 9460). It is asked for them over its own DNS over HTTPS, on a connection
//! that is verified already, so that no resolver learns the name and nobody can put other keys in their place. What must never happen
//! here: keys believed that came any other way.

use crate::{Channel, Endpoint, KnownServers, SessionError};
use bytes::Bytes;
use data_encoding::BASE64;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, RecordType,
        rdata::svcb::{SvcParamKey, SvcParamValue},
    },
};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use rustls::{
    client::{EchConfig, EchGreaseConfig, EchMode},
    crypto::{
        aws_lc_rs::hpke::{ALL_SUPPORTED_SUITES, DH_KEM_X25519_HKDF_SHA256_AES_128},
        hpke::Hpke as _,
    },
    internal::msgs::{codec::Codec, handshake::EchConfigPayload},
    pki_types::{EchConfigListBytes, ServerName},
};
use std::{fmt, str::FromStr, time::Duration};
use tokio::time::timeout;
use tonic::body::Body;

/// A server is asked for its keys again after this time. A key that is older still works or is replaced in the handshake itself, which
/// costs a second one; asking saves that.
const ASK_AGAIN_AFTER_S: i64 = 6 * 3_600;
/// A server that does not answer its own DNS in this time is asked another day.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest answer: DNS has no longer message.
const MAX_ANSWER_BYTES: usize = 65_535;
/// Keys that are read: some servers show a few, none shows hundreds.
const MAX_LIST_BYTES: usize = 4_096;
/// The path of DNS over HTTPS (RFC 8484).
const DOH_PATH: &str = "/dns-query";
const DNS_MESSAGE: &str = "application/dns-message";

/// An ECHConfigList of which at least one key can be used.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigList(Vec<u8>);

impl ConfigList {
    /// From the bytes that DNS carries.
    pub fn new(bytes: Vec<u8>) -> Result<Self, ConfigListError> {
        if bytes.len() > MAX_LIST_BYTES || config(&bytes).is_err() {
            return Err(ConfigListError);
        }
        Ok(Self(bytes))
    }

    /// From what a server says whose handshake rejected another list.
    pub(crate) fn of_retry(configs: &Vec<EchConfigPayload>) -> Option<Self> {
        let mut bytes = Vec::new();
        configs.encode(&mut bytes);
        Self::new(bytes).ok()
    }

    pub(crate) fn mode(&self) -> Result<EchMode, rustls::Error> {
        config(&self.0).map(EchMode::Enable)
    }
}

fn config(list: &[u8]) -> Result<EchConfig, rustls::Error> {
    EchConfig::new(EchConfigListBytes::from(list), ALL_SUPPORTED_SUITES)
}

/// What looks like ECH to whoever watches, for a server of which no key is known (RFC 9849 section 6.2): connections with and without
/// it are not to be told apart.
pub(crate) fn grease() -> Result<EchMode, rustls::Error> {
    let (public, _) = DH_KEM_X25519_HKDF_SHA256_AES_128.generate_key_pair()?;
    Ok(EchMode::Grease(EchGreaseConfig::new(DH_KEM_X25519_HKDF_SHA256_AES_128, public)))
}

/// Base64, as in a zone file.
impl fmt::Display for ConfigList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for ConfigList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ConfigList {
    type Err = ConfigListError;

    fn from_str(text: &str) -> Result<Self, ConfigListError> {
        Self::new(BASE64.decode(text.as_bytes()).map_err(|_| ConfigListError)?)
    }
}

/// There is no key in it that this version can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no list of ECH keys that can be used: give the value of `ech` in the server's HTTPS record")]
pub struct ConfigListError;

/// Asks the server at the other end for its keys where it is time to, and keeps what it says. What goes wrong is left for the next
/// time: the connection is as safe as it was.
pub(crate) async fn learn(channel: &Channel, servers: &KnownServers, now_unix_s: i64) -> Result<(), SessionError> {
    let endpoint = channel.endpoint();
    let Some(name) = record_name(endpoint) else { return Ok(()) };
    let age_s = now_unix_s.saturating_sub(servers.of(endpoint)?.ech.asked_unix_s);
    // A clock that was set back is no reason never to ask.
    if (0..ASK_AGAIN_AFTER_S).contains(&age_s) {
        return Ok(());
    }
    let Ok(Some(answer)) = timeout(ASK_TIMEOUT, ask(channel, &name)).await else { return Ok(()) };
    let kept = servers.change(endpoint, |known| {
        known.ech.asked_unix_s = now_unix_s;
        match answer {
            Answer::Keys(list) => known.ech.configs = Some(list),
            // Whoever wants no connection without a key keeps the last one: a zone without keys may be a mistake.
            Answer::NoKeys if !known.ech.required => known.ech.configs = None,
            Answer::NoKeys | Answer::Nothing => {}
        }
    });
    kept.await.map(drop)
}

/// What a server says of its keys.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// These are the newest.
    Keys(ConfigList),
    /// There are none.
    NoKeys,
    /// Nothing: it is no DNS server, or not of its own name.
    Nothing,
}

/// Where the record of a server is: at its name, or below it for another port than 443 (RFC 9460 section 9.1). An address has none.
fn record_name(endpoint: &Endpoint) -> Option<Name> {
    let ServerName::DnsName(host) = endpoint.server_name()? else { return None };
    let name = match endpoint.tls_port()? {
        443 => format!("{}.", host.as_ref()),
        port => format!("_{port}._https.{}.", host.as_ref()),
    };
    Name::from_ascii(name).ok()
}

/// Asks; nothing comes back where the connection is lost.
async fn ask(channel: &Channel, name: &Name) -> Option<Answer> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(DOH_PATH)
        .header(header::CONTENT_TYPE, DNS_MESSAGE)
        .header(header::ACCEPT, DNS_MESSAGE)
        .body(Body::new(Full::new(Bytes::from(question(name)?))))
        .ok()?;
    let response = channel.http(request).await.ok()?;
    let is_dns = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == DNS_MESSAGE);
    if response.status() != StatusCode::OK || !is_dns {
        return Some(Answer::Nothing);
    }
    let answer = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await.ok()?.to_bytes();
    Some(answered(&answer, name))
}

fn question(name: &Name) -> Option<Vec<u8>> {
    // The number is 0, as caches like it (RFC 8484 section 4.1).
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name.clone(), RecordType::HTTPS));
    message.to_vec().ok()
}

/// The keys of the record that comes first by its priority.
pub(crate) fn answered(answer: &[u8], name: &Name) -> Answer {
    let Ok(message) = Message::from_vec(answer) else { return Answer::Nothing };
    let is_answer = message.metadata.message_type == MessageType::Response
        && message.queries.iter().all(|query| query.name() == name)
        && matches!(message.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
    if !is_answer {
        return Answer::Nothing;
    }
    let records = message.answers.iter().filter(|record| record.name == *name);
    let mut services: Vec<_> = records
        .filter_map(|record| match &record.data {
            // Priority 0 is an alias, which has no parameters.
            RData::HTTPS(service) if service.svc_priority > 0 => Some(service),
            _ => None,
        })
        .collect();
    services.sort_by_key(|service| service.svc_priority);
    let lists = services.iter().flat_map(|service| &service.svc_params).filter_map(|parameter| match parameter {
        (SvcParamKey::EchConfigList, SvcParamValue::EchConfigList(list)) => ConfigList::new(list.0.clone()).ok(),
        _ => None,
    });
    lists.into_iter().next().map_or(Answer::NoKeys, Answer::Keys)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use hickory_proto::rr::{
        Record,
        rdata::{
            HTTPS,
            svcb::{EchConfigList, SVCB},
        },
    };
    use rustls::crypto::hpke::HpkePublicKey;

    /// A list with one key of this id (RFC 9849 section 4).
    pub(crate) fn list(id: u8) -> ConfigList {
        let (HpkePublicKey(key), _) = DH_KEM_X25519_HKDF_SHA256_AES_128.generate_key_pair().expect("a key");
        let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).expect("short").to_be_bytes(), bytes].concat();
        let name = b"public.example.org";
        let length = u8::try_from(name.len()).expect("short");
        let contents = [&[id, 0, 0x20], &*sized(&key), &sized(&[0, 1, 0, 1]), &[0, length], name, &[0, 0]].concat();
        let config = [&[0xfe, 0x0d], &*sized(&contents)].concat();
        ConfigList::new(sized(&config)).expect("a list")
    }

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn service(priority: u16, owner: &str, keys: Option<&[u8]>) -> Record {
        let keys = keys.map(|keys| SvcParamValue::EchConfigList(EchConfigList(keys.to_vec())));
        let parameters = keys.map(|keys| (SvcParamKey::EchConfigList, keys)).into_iter().collect();
        Record::from_rdata(name(owner), 300, RData::HTTPS(HTTPS(SVCB::new(priority, name(owner), parameters))))
    }

    fn told(change: impl FnOnce(&mut Message)) -> Answer {
        let mut message = Message::new(0, MessageType::Response, OpCode::Query);
        message.add_query(Query::query(name("example.org."), RecordType::HTTPS));
        change(&mut message);
        answered(&message.to_vec().expect("a message"), &name("example.org."))
    }

    #[test]
    fn the_keys_of_the_first_service_that_has_some_are_taken() {
        let (first, second) = (list(1), list(2));
        let keys = told(|message| {
            message.add_answer(service(3, "example.org.", Some(&second.0)));
            message.add_answer(service(1, "example.org.", None));
            message.add_answer(service(2, "example.org.", Some(&first.0)));
        });
        assert_eq!(keys, Answer::Keys(first.clone()));
        // An alias has no keys, another name's are not ours, and what cannot be used is none.
        let keys = told(|message| {
            message.add_answer(service(0, "example.org.", Some(&first.0)));
            message.add_answer(service(1, "other.example.org.", Some(&first.0)));
            message.add_answer(service(2, "example.org.", Some(b"no list")));
        });
        assert_eq!(keys, Answer::NoKeys);
        assert_eq!(told(|message| message.metadata.response_code = ResponseCode::NXDomain), Answer::NoKeys);
    }

    #[test]
    fn what_is_no_answer_to_the_question_says_nothing() {
        assert_eq!(told(|message| message.metadata.message_type = MessageType::Query), Answer::Nothing);
        assert_eq!(told(|message| message.metadata.response_code = ResponseCode::Refused), Answer::Nothing);
        let other = Query::query(name("other.example.org."), RecordType::HTTPS);
        assert_eq!(told(|message| message.queries.push(other)), Answer::Nothing);
        assert_eq!(answered(b"", &name("example.org.")), Answer::Nothing);
    }

    #[test]
    fn the_record_is_asked_for_where_the_port_has_it() {
        let check = |origin: &str, expect: Option<&str>| {
            let asked = record_name(&origin.parse().expect(origin)).map(|name| name.to_string());
            assert_eq!(asked.as_deref(), expect, "{origin}");
        };
        check("https://example.org", Some("example.org."));
        check("https://Example.org:8443", Some("_8443._https.example.org."));
        check("https://192.0.2.1", None);
        check("http://localhost:1", None);
    }

    #[test]
    fn a_list_without_a_key_that_can_be_used_is_none() {
        let good = list(1);
        assert_eq!(good.to_string().parse(), Ok(good.clone()));
        let unknown_version = [&good.0[..2], &[0xfe, 0x99], &good.0[4..]].concat();
        for bytes in [Vec::new(), vec![0, 0], good.0[..good.0.len() - 1].to_vec(), unknown_version] {
            assert_eq!(ConfigList::new(bytes.clone()), Err(ConfigListError), "{bytes:?}");
        }
        let long = [good.0.as_slice(), &[0; MAX_LIST_BYTES]].concat();
        assert_eq!(ConfigList::new(long), Err(ConfigListError));
    }
}
