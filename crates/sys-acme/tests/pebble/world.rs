//! Pebble with its DNS server, and a world around a keeper that answers for all names.

mod pebble;
mod servers;

pub(crate) use pebble::{EAB_KEY, EAB_KEY_ID, Pebble};

use servers::{AlpnServer, FileServer};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use sys_acme::{
    AcmeClock, Boxed, Certificate, CertificateState, Challenge, ChallengeKind, Challenges, FailureReport, Keeper, Kept,
    KeptError, NotShown, Settings, SystemClock,
};
use tokio::{
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};
use zeroize::Zeroizing;

/// Longer than anything here takes, also on a machine that has much to do.
const PATIENCE: Duration = Duration::from_secs(90);

/// The machine's clock, which a test can put forward: who sleeps is woken.
struct ShiftedClock {
    ahead_s: AtomicI64,
    moved: Notify,
}

impl AcmeClock for ShiftedClock {
    fn now_unix_s(&self) -> i64 {
        SystemClock.now_unix_s() + self.ahead_s.load(Ordering::SeqCst)
    }

    fn sleep(&self, time: Duration) -> Boxed<'_, ()> {
        Box::pin(async move {
            // An early wake is a look at the clock more.
            tokio::select! { () = sleep(time) => {}, () = self.moved.notified() => {} }
        })
    }
}

#[derive(Default)]
struct MemoryKept(Mutex<BTreeMap<String, Vec<u8>>>);

impl Kept for MemoryKept {
    fn names(&self) -> Boxed<'_, Result<Vec<String>, KeptError>> {
        Box::pin(async move { Ok(self.0.lock().unwrap().keys().cloned().collect()) })
    }

    fn get<'a>(&'a self, name: &'a str) -> Boxed<'a, Result<Option<Zeroizing<Vec<u8>>>, KeptError>> {
        Box::pin(async move { Ok(self.0.lock().unwrap().get(name).cloned().map(Zeroizing::new)) })
    }

    fn put<'a>(&'a self, name: &'a str, bytes: Zeroizing<Vec<u8>>) -> Boxed<'a, Result<(), KeptError>> {
        Box::pin(async move {
            self.0.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
            Ok(())
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> Boxed<'a, Result<(), KeptError>> {
        Box::pin(async move {
            self.0.lock().unwrap().remove(name);
            Ok(())
        })
    }
}

/// Shows challenges where Pebble looks.
struct Shower {
    management: String,
    files: FileServer,
    alpn: AlpnServer,
    shown: Mutex<Vec<Challenge>>,
    wrong: Mutex<Option<ChallengeKind>>,
}

impl Shower {
    fn is_wrong(&self, kind: ChallengeKind) -> bool {
        *self.wrong.lock().unwrap() == Some(kind)
    }
}

impl Challenges for Shower {
    fn present<'a>(&'a self, challenge: &'a Challenge) -> Boxed<'a, Result<(), NotShown>> {
        Box::pin(async move {
            self.shown.lock().unwrap().push(challenge.clone());
            match challenge {
                Challenge::Dns01 { name, value } => {
                    let value = if self.is_wrong(ChallengeKind::Dns01) { "wrong" } else { value };
                    let body = serde_json::json!({"host": format!("{name}."), "value": value});
                    pebble::tell(&self.management, "/set-txt", &body).await.map_err(|error| NotShown(error.to_string()))
                }
                Challenge::Http01 { token, key_authorization } => {
                    let text = if self.is_wrong(ChallengeKind::Http01) { "wrong" } else { key_authorization };
                    self.files.set(token, Some(text));
                    Ok(())
                }
                Challenge::TlsAlpn01 { name, chain_pem, key_pem } => {
                    let name = if self.is_wrong(ChallengeKind::TlsAlpn01) { "other.example.org" } else { name };
                    self.alpn.set(name, Some((chain_pem, key_pem)));
                    Ok(())
                }
            }
        })
    }

    fn withdraw<'a>(&'a self, challenge: &'a Challenge) -> Boxed<'a, ()> {
        Box::pin(async move {
            match challenge {
                Challenge::Dns01 { name, .. } => {
                    let body = serde_json::json!({"host": format!("{name}.")});
                    let _ = pebble::tell(&self.management, "/clear-txt", &body).await;
                }
                Challenge::Http01 { token, .. } => self.files.set(token, None),
                Challenge::TlsAlpn01 { name, .. } => self.alpn.set(name, None),
            }
            self.shown.lock().unwrap().retain(|shown| shown != challenge);
        })
    }
}

/// All that a keeper stands on.
pub(crate) struct World {
    kept: Arc<MemoryKept>,
    shower: Arc<Shower>,
    clock: Arc<ShiftedClock>,
    tell: mpsc::UnboundedSender<Certificate>,
    told: mpsc::UnboundedReceiver<Certificate>,
}

impl World {
    pub(crate) fn new(pebble: &Pebble) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let shower = Shower {
            management: pebble.dns_management(),
            files: pebble.files(),
            alpn: pebble.alpn(),
            shown: Mutex::default(),
            wrong: Mutex::default(),
        };
        let clock = ShiftedClock { ahead_s: AtomicI64::new(0), moved: Notify::new() };
        Self { kept: Arc::default(), shower: Arc::new(shower), clock: Arc::new(clock), tell, told }
    }

    pub(crate) async fn start(&self, settings: Settings) -> Keeper {
        let tell = self.tell.clone();
        let on_certificate = Arc::new(move |certificate: &Certificate| drop(tell.send(certificate.clone())));
        Keeper::start(settings, self.kept.clone(), self.shower.clone(), self.clock.clone(), on_certificate)
            .await
            .expect("it starts")
    }

    /// The next certificate that is told.
    pub(crate) async fn certificate(&mut self) -> Certificate {
        timeout(PATIENCE, self.told.recv()).await.expect("a certificate comes in time").expect("the keeper lives")
    }

    /// What failed, once something has.
    pub(crate) async fn failure(&self, keeper: &Keeper) -> FailureReport {
        let failed = async {
            loop {
                let status = keeper.status().remove(0);
                match status.last_failure {
                    Some(failure) if status.state != CertificateState::Ordering => return failure,
                    _ => sleep(Duration::from_millis(20)).await,
                }
            }
        };
        timeout(PATIENCE, failed).await.expect("it fails in time")
    }

    /// Puts the clock forward.
    pub(crate) fn skip(&self, time: Duration) {
        self.clock.ahead_s.fetch_add(i64::try_from(time.as_secs()).unwrap(), Ordering::SeqCst);
        self.clock.moved.notify_waiters();
    }

    /// Puts it forward to each next try, until all is well.
    pub(crate) async fn skip_while_waiting(&self, keeper: &Keeper) {
        let good = async {
            loop {
                match keeper.status().remove(0).state {
                    CertificateState::Good { .. } => return,
                    CertificateState::Ordering => sleep(Duration::from_millis(20)).await,
                    CertificateState::Waiting { next_try_unix_s, .. }
                    | CertificateState::Failed { next_try_unix_s, .. } => {
                        let ahead = (next_try_unix_s - self.clock.now_unix_s()).max(1);
                        self.skip(Duration::from_secs(ahead.unsigned_abs()));
                        sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        };
        timeout(PATIENCE, good).await.expect("all is well in time");
    }

    pub(crate) fn show_wrong_answers(&self, kind: ChallengeKind) {
        *self.shower.wrong.lock().unwrap() = Some(kind);
    }

    pub(crate) fn shown(&self) -> Vec<Challenge> {
        self.shower.shown.lock().unwrap().clone()
    }

    pub(crate) fn kept_names(&self, prefix: &str) -> Vec<String> {
        self.kept.0.lock().unwrap().keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }
}
