//! Where Pebble looks for proofs: a server for files, and one for handshakes.

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

type Texts = Arc<Mutex<BTreeMap<String, String>>>;

/// Answers `/.well-known/acme-challenge/TOKEN`.
#[derive(Clone)]
pub(crate) struct FileServer(Texts);

impl FileServer {
    pub(crate) fn start(listener: TcpListener) -> Self {
        let texts = Texts::default();
        let served = Arc::clone(&texts);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 2_048];
                let read = stream.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default();
                let token = path.strip_prefix("/.well-known/acme-challenge/").unwrap_or_default();
                let text = served.lock().unwrap().get(token).cloned();
                let answer = match text {
                    Some(text) => {
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len())
                    }
                    None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self(texts)
    }

    pub(crate) fn set(&self, token: &str, text: Option<&str>) {
        let mut texts = self.0.lock().unwrap();
        match text {
            Some(text) => texts.insert(token.to_owned(), text.to_owned()),
            None => texts.remove(token),
        };
    }
}

/// Answers handshakes with ALPN `acme-tls/1`.
#[derive(Clone)]
pub(crate) struct AlpnServer(Arc<Shown>);

#[derive(Default)]
struct Shown(Mutex<BTreeMap<String, Arc<CertifiedKey>>>);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap().get(hello.server_name()?).cloned()
    }
}

impl AlpnServer {
    pub(crate) fn start(listener: TcpListener) -> Self {
        let shown = Arc::new(Shown::default());
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        let _ = stream.read(&mut [0; 1]).await;
                    }
                });
            }
        });
        Self(shown)
    }

    pub(crate) fn set(&self, name: &str, certificate: Option<(&str, &str)>) {
        let mut shown = self.0.0.lock().unwrap();
        let Some((chain, key)) = certificate else {
            shown.remove(name);
            return;
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        // Not `from_der`, which refuses a critical extension that it does not know.
        shown.insert(name.to_owned(), Arc::new(CertifiedKey::new(chain, key)));
    }
}
