//! Shows certificate authorities what they look for: in the zone, in the handshake, on port 80.
//!
//! Nothing of it is kept: a proof is of use while somebody looks, and a server that comes up again begins its order anew.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use sys_acme::{Boxed, Challenge, Challenges, NotShown};
use sys_dns::zone::Name;
use sys_edge::{
    plain::HttpChallenges,
    tls::{Identity, Tls},
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

/// How long a proof may take to get into the zone. It is a moment, unless the store takes no writes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The proofs that stand in the zones.
pub(crate) type Proofs = BTreeSet<(Name, String)>;

/// The proofs that are wanted, and those that are served. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Wall {
    wanted: Arc<Mutex<Proofs>>,
    served: watch::Sender<Proofs>,
    /// Wakes the keeper.
    bell: Arc<Notify>,
}

impl Wall {
    pub(crate) fn new(bell: Arc<Notify>) -> Self {
        Self { wanted: Arc::default(), served: watch::Sender::new(Proofs::new()), bell }
    }

    /// The proofs that are to stand in the zones.
    pub(crate) fn wanted(&self) -> Proofs {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Told by the keeper once zones with these are served.
    pub(crate) fn are_served(&self, proofs: Proofs) {
        self.served.send_if_modified(|served| {
            let is_new = *served != proofs;
            *served = proofs;
            is_new
        });
    }

    async fn put_up(&self, proof: (Name, String)) -> Result<(), NotShown> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).insert(proof.clone());
        self.bell.notify_one();
        let mut served = self.served.subscribe();
        let shown = timeout(PATIENCE, served.wait_for(|served| served.contains(&proof))).await;
        match shown {
            Ok(Ok(_)) => Ok(()),
            _ => Err(NotShown("the proof did not get into the zone: the log of the server says why".to_owned())),
        }
    }

    fn take_down(&self, proof: &(Name, String)) {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).remove(proof);
        self.bell.notify_one();
    }
}

/// All three places.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) wall: Wall,
    /// The zones that are served here; a proof in another one would be seen by nobody.
    pub(crate) zones: Vec<Name>,
    pub(crate) tls: Tls,
    pub(crate) http: HttpChallenges,
}

impl Challenges for Places {
    fn present<'a>(&'a self, challenge: &'a Challenge) -> Boxed<'a, Result<(), NotShown>> {
        Box::pin(async move {
            match challenge {
                Challenge::Dns01 { name, value } => self.wall.put_up((self.proof_name(name)?, value.clone())).await,
                Challenge::TlsAlpn01 { name, chain_pem, key_pem } => {
                    let identity = Identity::from_pem(chain_pem.as_bytes(), key_pem.as_bytes());
                    let identity = identity.map_err(|error| NotShown(error.to_string()))?;
                    self.tls.answer_alpn_challenge(name, Some(identity));
                    Ok(())
                }
                Challenge::Http01 { token, key_authorization } => {
                    self.http.set(token, key_authorization);
                    Ok(())
                }
            }
        })
    }

    fn withdraw<'a>(&'a self, challenge: &'a Challenge) -> Boxed<'a, ()> {
        Box::pin(async move {
            match challenge {
                Challenge::Dns01 { name, value } => {
                    if let Ok(name) = self.proof_name(name) {
                        self.wall.take_down(&(name, value.clone()));
                    }
                }
                Challenge::TlsAlpn01 { name, .. } => self.tls.answer_alpn_challenge(name, None),
                Challenge::Http01 { token, .. } => self.http.remove(token),
            }
        })
    }
}

impl Places {
    /// Where a proof stands, if that is in a zone of ours.
    fn proof_name(&self, name: &str) -> Result<Name, NotShown> {
        let name = Name::parse(name).map_err(|error| NotShown(error.to_string()))?;
        if self.zones.iter().any(|apex| name.is_within(apex)) {
            return Ok(name);
        }
        Err(NotShown(format!("the zone of {name} is not served here")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_proof_stands_in_a_zone_of_ours_or_is_refused_at_once() {
        let bell = Arc::new(Notify::new());
        let wall = Wall::new(bell.clone());
        let zones = vec![Name::parse("example.org").unwrap()];
        let (tls, http) = (Tls::new().unwrap(), HttpChallenges::default());
        let places = Places { wall: wall.clone(), zones, tls, http };
        let proof = |name: &str| Challenge::Dns01 { name: name.to_owned(), value: "proof".to_owned() };
        assert!(places.present(&proof("_acme-challenge.example.com")).await.is_err());
        let served = async {
            bell.notified().await;
            wall.are_served(wall.wanted());
        };
        let ours = proof("_acme-challenge.example.org");
        let (shown, ()) = tokio::join!(places.present(&ours), served);
        assert!(shown.is_ok());
        assert_eq!(wall.wanted().len(), 1);
        places.withdraw(&ours).await;
        assert!(wall.wanted().is_empty());
    }
}
