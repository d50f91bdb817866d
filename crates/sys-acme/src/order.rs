//! One try to get a certificate: order, prove each name, request, collect.
//!
//! Everything is bounded: each request in time and size ([`http`](crate::http)), each wait for the directory in number and time. What was shown
//! to prove a name is withdrawn however the try ends.

use crate::{
    account::Opened,
    certificate::{Issued, KeyRequest},
    challenge::{self, Challenge, ChallengeKind, Challenges},
    clock::AcmeClock,
    directory::Notes,
    failure::{self, Failure},
    name::{Name, Wanted},
};
use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, Error, Identifier,
    NewOrder, Order, OrderStatus,
};
use std::{collections::BTreeSet, time::Duration};
use tokio::{sync::watch, time::timeout};

/// How long a directory may take to verify, and then to issue. Public ones need seconds.
const MAX_SETTLING_S: i64 = 300;
/// Looks at an order in this time, at most.
const MAX_LOOKS: usize = 100;
const FIRST_PAUSE_S: u64 = 1;
const MAX_PAUSE_S: u64 = 15;
/// For all proofs together: each request has its bound, but there may be some for each of a hundred names.
const MAX_PROVING: Duration = Duration::from_secs(1_800);
/// For who shows a challenge: a zone may have to be signed and served first.
const PRESENT_TIMEOUT: Duration = Duration::from_secs(60);

/// The errors of RFC 8555 section 6.7 that say what was wrong with a proof.
const PROOF_ERRORS: [&str; 6] = ["caa", "connection", "dns", "incorrectResponse", "tls", "unauthorized"];

/// What a try is made with.
pub(crate) struct Try<'a> {
    pub(crate) wanted: &'a Wanted,
    pub(crate) kinds: &'a [ChallengeKind],
    pub(crate) profile: Option<&'a str>,
    /// The certificate that this one takes the place of, where the directory wants to know.
    pub(crate) replaces: Option<CertificateIdentifier<'static>>,
    /// How many tries failed before: each takes the next kind of proof.
    pub(crate) turn: usize,
    pub(crate) challenges: &'a dyn Challenges,
    pub(crate) clock: &'a dyn AcmeClock,
    /// Turns true when the server stops.
    pub(crate) stop: watch::Receiver<bool>,
}

impl Try<'_> {
    /// Gets the certificate.
    pub(crate) async fn run(&self, opened: &Opened) -> Result<Issued, Failure> {
        self.check_profile(&opened.account)?;
        let mut order = self.order(&opened.account).await?;
        let mut shown = Vec::new();
        let mut stop = self.stop.clone();
        let proven = tokio::select! {
            proven = self.prove(&mut order, &opened.notes, &mut shown) => proven,
            _ = stop.wait_for(|stop| *stop) => Err(Failure::Interrupted),
            () = self.clock.sleep(MAX_PROVING) => Err(Failure::Stuck { status: "unproven" }),
        };
        for challenge in &shown {
            self.challenges.withdraw(challenge).await;
        }
        proven?;
        self.collect(&mut order, &opened.notes).await
    }

    /// A directory that knows no such profile would give some other, or refuse in words of its own.
    fn check_profile(&self, account: &Account) -> Result<(), Failure> {
        let Some(asked) = self.profile else { return Ok(()) };
        let offered: BTreeSet<&str> = account.profiles().map(|profile| profile.name).collect();
        if offered.contains(asked) {
            return Ok(());
        }
        let offered =
            if offered.is_empty() { "none".to_owned() } else { offered.into_iter().collect::<Vec<_>>().join(", ") };
        Err(Failure::Profile { asked: asked.to_owned(), offered: failure::bounded(&offered) })
    }

    async fn order(&self, account: &Account) -> Result<Order, Failure> {
        let identifiers: Vec<Identifier> = self.wanted.iter().map(Name::identifier).collect();
        let plain = || {
            let new = NewOrder::new(&identifiers);
            if let Some(profile) = self.profile { new.profile(profile) } else { new }
        };
        if let Some(replaces) = self.replaces.clone() {
            match account.new_order(&plain().replaces(replaces)).await {
                // It was replaced before, is not known any more, or the directory does not say what it should: then without (RFC 9773 section 5).
                Err(Error::Unsupported(_)) => {}
                Err(Error::Api(problem))
                    if matches!(failure::kind(&problem), "alreadyReplaced" | "malformed" | "conflict") => {}
                Err(Error::Other(other)) if !other.is::<crate::http::HttpError>() => {}
                ordered => return ordered.map_err(Failure::from_acme),
            }
        }
        account.new_order(&plain()).await.map_err(Failure::from_acme)
    }

    /// Shows all proofs, lets the directory look, and waits for what it says.
    async fn prove(&self, order: &mut Order, notes: &Notes, shown: &mut Vec<Challenge>) -> Result<(), Failure> {
        if !matches!(order.state().status, OrderStatus::Pending | OrderStatus::Ready) {
            return Err(Failure::Garbage { what: "a new order that is neither pending nor ready".to_owned() });
        }
        // Each is asked for by itself, and may take its time.
        if order.state().authorizations.len() > self.wanted.iter().count() {
            return Err(Failure::Garbage { what: "an order with more authorizations than names".to_owned() });
        }
        let mut kinds = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            kinds.push(self.present(authorization.map_err(Failure::from_acme)?, shown).await?);
        }
        // Only when all are shown: two may stand in one record set, which the directory's resolver keeps.
        let mut authorizations = order.authorizations();
        let mut kinds = kinds.iter();
        while let (Some(authorization), Some(kind)) = (authorizations.next().await, kinds.next()) {
            let Some(kind) = *kind else { continue };
            let mut authorization = authorization.map_err(Failure::from_acme)?;
            let name = authorization.identifier().to_string();
            let Some(mut challenge) = authorization.challenge(kind.of_directory()) else { continue };
            challenge.set_ready().await.map_err(|error| match error {
                Error::Api(problem) if PROOF_ERRORS.contains(&failure::kind(&problem)) => {
                    Failure::from_challenge(&name, kind, Some(&problem))
                }
                other => Failure::from_acme(other),
            })?;
        }
        match self.settle(order, notes, |status| status != OrderStatus::Pending).await? {
            OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid => Ok(()),
            OrderStatus::Invalid | OrderStatus::Pending => Err(Self::reason(order).await),
        }
    }

    /// Shows one proof; says of which kind, or `None` if the name is proven already.
    async fn present(
        &self,
        authorization: AuthorizationHandle<'_>,
        shown: &mut Vec<Challenge>,
    ) -> Result<Option<ChallengeKind>, Failure> {
        let text = authorization.identifier().to_string();
        match authorization.status {
            AuthorizationStatus::Valid => return Ok(None),
            AuthorizationStatus::Pending => {}
            _ => return Err(Failure::Garbage { what: "a new order with an authorization that is over".to_owned() }),
        }
        let name = self.wanted.iter().find(|name| name.to_string() == text);
        let Some(name) = name else {
            return Err(Failure::Garbage { what: "an authorization for a name that was not ordered".to_owned() });
        };
        let offers =
            |kind: &ChallengeKind| authorization.challenges.iter().any(|one| one.r#type == kind.of_directory());
        let usable: Vec<ChallengeKind> =
            self.kinds.iter().copied().filter(|kind| kind.fits(name) && offers(kind)).collect();
        let kind = self.turn.checked_rem(usable.len()).and_then(|turn| usable.get(turn).copied());
        let Some(kind) = kind else {
            let offered: Vec<String> = authorization.challenges.iter().map(|one| format!("{:?}", one.r#type)).collect();
            return Err(Failure::NoChallenge { name: text, offered: failure::bounded(&offered.join(", ")) });
        };
        let mut authorization = authorization;
        let Some(handle) = authorization.challenge(kind.of_directory()) else { return Ok(None) };
        let key = handle.key_authorization();
        let made =
            challenge::challenge(kind, name, &handle.token, key.as_str(), key.dns_value(), key.digest().as_ref())?;
        // Noted before it is shown: also what was shown in part is withdrawn.
        shown.push(made.clone());
        let reason = match timeout(PRESENT_TIMEOUT, self.challenges.present(&made)).await {
            Ok(Ok(())) => return Ok(Some(kind)),
            Ok(Err(not_shown)) => not_shown.0,
            Err(_) => format!("it took longer than {} s", PRESENT_TIMEOUT.as_secs()),
        };
        Err(Failure::NotShown { name: text, reason: failure::bounded(&reason) })
    }

    /// Looks at the order until it is what is waited for, with pauses that the directory may lengthen.
    async fn settle(
        &self,
        order: &mut Order,
        notes: &Notes,
        is_over: fn(OrderStatus) -> bool,
    ) -> Result<OrderStatus, Failure> {
        let begun = self.clock.now_unix_s();
        let mut pause = FIRST_PAUSE_S;
        let mut status = order.state().status;
        for _ in 0..MAX_LOOKS {
            status = order.refresh().await.map_err(Failure::from_acme)?.status;
            if is_over(status) {
                return Ok(status);
            }
            if self.clock.now_unix_s().saturating_sub(begun) > MAX_SETTLING_S {
                break;
            }
            let asked = notes.retry_after_s().unwrap_or(pause).clamp(1, MAX_PAUSE_S);
            self.clock.sleep(Duration::from_secs(asked)).await;
            pause = pause.saturating_mul(2).min(MAX_PAUSE_S);
        }
        Err(Failure::Stuck { status: failure::status_name(status) })
    }

    async fn collect(&self, order: &mut Order, notes: &Notes) -> Result<Issued, Failure> {
        let request = KeyRequest::new(self.wanted)?;
        order.finalize_csr(&request.csr_der).await.map_err(Failure::from_acme)?;
        let is_over = |status| matches!(status, OrderStatus::Valid | OrderStatus::Invalid);
        if self.settle(order, notes, is_over).await? == OrderStatus::Invalid {
            return Err(Self::reason(order).await);
        }
        let chain = order.certificate().await.map_err(Failure::from_acme)?;
        let chain = chain
            .ok_or_else(|| Failure::Garbage { what: "an order that is valid without a certificate".to_owned() })?;
        request.fulfilled_by(chain, self.wanted, self.clock.now_unix_s())
    }

    /// Why an order is invalid: the reason stands at the challenge, and in some directories at the order.
    async fn reason(order: &mut Order) -> Failure {
        let problem = order.state().error.clone();
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let Ok(state) = authorization.refresh().await else { continue };
            let name = state.identifier().to_string();
            let failed =
                state.challenges.iter().find(|one| one.status == ChallengeStatus::Invalid || one.error.is_some());
            let Some(failed) = failed else { continue };
            let kinds = [ChallengeKind::Dns01, ChallengeKind::TlsAlpn01, ChallengeKind::Http01];
            if let Some(kind) = kinds.into_iter().find(|kind| kind.of_directory() == failed.r#type) {
                return Failure::from_challenge(&name, kind, failed.error.as_ref());
            }
        }
        match problem {
            Some(problem) => Failure::from_problem(&problem),
            None => Failure::Garbage { what: "an order that is invalid without a reason".to_owned() },
        }
    }
}
