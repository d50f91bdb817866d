//! Our server, in a process of its own: zone and wires as `sys-server` puts them together, without what is behind other paths.

use crate::{RECORDS, TTL_S, servers::Server};
use anyhow::{Context, Result};
use boring::ssl::{SslAcceptor, SslFiletype, SslMethod, SslVersion};
use http::Request;
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    fs,
    future::pending,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use sys_dns::{
    answer::{Answers, SignedZone},
    dnssec::{SigningKey, SigningKeys},
    name::Name,
    respond::{Clock, Responder, Rules, Transport},
    serve::{DnsBind, DnsListener, Limits, StreamListener},
    zone::{Data, Kind, RecordSet, Soa, Zone},
};
use sys_edge::{
    Bind, Listener, Source,
    hygiene::Hygiene,
    tls::{Identity, Tls},
};

/// Serves until it is killed.
pub(crate) fn serve(dir: &Path) -> Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build()?.block_on(ours(dir))
}

async fn ours(dir: &Path) -> Result<()> {
    let clock: Clock = Arc::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_secs().cast_signed()
    });
    let answers = Answers::new(clock.clone());
    let keys = SigningKeys::single(Arc::new(SigningKey::generate()?));
    answers.serve(vec![SignedZone { zone: zone()?, keys }]);
    let rules = Rules { answers_per_s: None, ..Rules::default() };
    let responder = Responder::new(answers, rules, clock, [[1; 16], [2; 16]]);
    let limits = Limits { udp_threads: NonZeroUsize::MIN, ..Limits::default() };
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let dot = StreamListener::bind(at(Server::Ours.tls_port()), limits).await?;
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
    acceptor.set_max_proto_version(Some(SslVersion::TLS1_3))?;
    acceptor.set_private_key_file(dir.join("key.pem"), SslFiletype::PEM)?;
    acceptor.set_certificate_chain_file(dir.join("chain.pem"))?;
    let acceptor = acceptor.build();
    let handshake = move |stream| {
        let acceptor = acceptor.clone();
        async move { tokio_boring::accept(&acceptor, stream).await.ok() }
    };
    let under_tls = dot.serve(responder.clone(), Transport::Tls, handshake, pending());
    let listener = DnsListener::bind(DnsBind { addr: at(Server::Ours.port()), limits }).await?;
    let in_the_clear = listener.serve(responder.clone(), pending());
    let tls = Tls::new()?;
    tls.show(vec![Identity::from_pem(&fs::read(dir.join("chain.pem"))?, &fs::read(dir.join("key.pem"))?)?]);
    let https = Listener::bind(Bind { tls: Some(tls), ..Bind::at(at(Server::Ours.https_port())) }).await?;
    // As it stands on the main port of `sys-server`.
    let questions = Hygiene::default().around(tower::service_fn(move |request: Request<Incoming>| {
        let source = request.extensions().get::<Source>().map_or(Ipv4Addr::LOCALHOST.into(), |source| source.0);
        let answering = sys_dns::https::answer(&responder, request, source);
        async move { Ok::<_, Infallible>(answering.await) }
    }));
    let over_https = async { https.serve(questions, pending()).await.context("HTTPS") };
    let others = async { tokio::try_join!(under_tls, in_the_clear).context("DNS") };
    tokio::try_join!(others, over_https)?;
    Ok(())
}

fn zone() -> Result<Zone> {
    let mut sets: Vec<RecordSet> = Vec::new();
    for (name, kind, data) in RECORDS {
        let (name, kind) = (Name::parse(name)?, Kind::parse(kind).context("a kind")?);
        let data = Data::parse(kind, data)?;
        match sets.iter_mut().find(|set| set.name == name && set.kind() == Some(kind)) {
            Some(set) => set.data.push(data),
            None => sets.push(RecordSet { name, ttl_s: TTL_S, data: vec![data] }),
        }
    }
    let soa = Soa {
        primary: Name::parse("ns1.example.org.")?,
        mailbox: Name::parse("hostmaster.example.org.")?,
        serial: 1,
        refresh_s: 86_400,
        retry_s: 7_200,
        expire_s: 1_209_600,
        negative_ttl_s: 300,
        ttl_s: TTL_S,
    };
    Zone::build(Name::parse("example.org.")?, sets, soa).map_err(|faults| anyhow::anyhow!("{faults:?}"))
}
