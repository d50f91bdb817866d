//! The life of one certificate.

use super::{
    AskError, Surroundings,
    records::{self, ATTEMPTS_FORMAT, Attempts, Places},
};
use crate::{
    certificate::{self, Certificate, Issued},
    failure::Failure,
    kept::{self, KeptError},
    name::Wanted,
    plan::{self, State, Step},
    source::{Failed, Request},
    status::{CertificateState, CertificateStatus, FailureReport, Revoking},
};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use data_encoding::BASE64;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot, watch};

/// The longest sleep: a machine that was suspended, or whose clock was set, looks again after it.
const LONGEST_SLEEP_S: u64 = 3_600;

/// What somebody wants done by hand.
pub(super) enum Ask {
    /// Order anew.
    Renew(oneshot::Sender<Result<(), AskError>>),
    /// Revoke, and order anew.
    Revoke(oneshot::Sender<Result<(), AskError>>),
}

/// One certificate, and all that is known about it.
pub(super) struct Task {
    wanted: Wanted,
    around: Surroundings,
    asks: mpsc::Receiver<Ask>,
    stop: watch::Receiver<bool>,
    status: Arc<Mutex<CertificateStatus>>,
    places: Places,
    certificate: Option<Certificate>,
    /// Whether the certificate is from the source that is asked now.
    is_own: bool,
    state: State,
    random: u64,
    report: Option<FailureReport>,
    /// A certificate that came and could not be kept: it is not ordered twice.
    unkept: Option<Issued>,
}

impl Task {
    /// Reads what is kept, and tells the certificate if there is one.
    pub(super) async fn load(
        wanted: Wanted,
        around: Surroundings,
        asks: mpsc::Receiver<Ask>,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, KeptError> {
        let places = Places::of(&wanted);
        let state = CertificateState::Ordering;
        let status = CertificateStatus::new(wanted.names(), state);
        let mut task = Self {
            state: State::new(around.source.has_windows(), wanted.proofs_of_one_name()),
            random: draw(),
            status: Arc::new(Mutex::new(status)),
            certificate: None,
            is_own: false,
            report: None,
            unkept: None,
            wanted,
            around,
            asks,
            stop,
            places,
        };
        task.load_attempts().await?;
        task.load_certificate().await?;
        task.publish(task.around.clock.now_unix_s(), false);
        Ok(task)
    }

    pub(super) fn status(&self) -> Arc<Mutex<CertificateStatus>> {
        Arc::clone(&self.status)
    }

    async fn load_attempts(&mut self) -> Result<(), KeptError> {
        let bytes = self.around.kept.get(&self.places.attempts).await?;
        let attempts = bytes.and_then(|bytes| serde_json::from_slice::<Attempts>(&bytes).ok());
        // How tries went elsewhere says nothing; what cannot be read neither, and is no reason not to start.
        let known = attempts.filter(|known| known.format == ATTEMPTS_FORMAT);
        if let Some(known) = known {
            if known.origin != self.around.source.origin() {
                if known.state.revocation.is_some() {
                    tracing::warn!(names = ?self.wanted.names(), "a certificate was to be declared void by an authority that is asked no more");
                }
                return Ok(());
            }
            let State { has_windows, proofs, .. } = self.state;
            self.state = known.state;
            (self.state.has_windows, self.state.proofs) = (has_windows, proofs);
            (self.random, self.report) = (known.random, known.report);
        }
        Ok(())
    }

    async fn load_certificate(&mut self) -> Result<(), KeptError> {
        let (begun, over) = (self.state.begun.take(), self.state.begun_over.take());
        let now = self.around.clock.now_unix_s();
        match records::read_certificate(&*self.around.kept, &self.places.certificate, &self.wanted).await? {
            Some(Ok(kept)) => {
                self.is_own = kept.origin == self.around.source.origin();
                self.state.replace |= !self.is_own;
                self.state.held = Some(kept.issued.held);
                match begun {
                    // Another than the one that was there when the try began: it is what came of it, whatever clocks said.
                    Some(_) if over != Some(fingerprint(&kept.issued.certificate)) => {
                        self.state.succeeded(kept.issued.held);
                        self.report = None;
                    }
                    Some(begun) => self.interrupted(begun),
                    None => {}
                }
                (self.around.on_certificate)(&kept.issued.certificate);
                self.certificate = Some(kept.issued.certificate);
            }
            other => {
                if let Some(begun) = begun {
                    self.interrupted(begun);
                }
                if let Some(Err(failure)) = other {
                    self.report = Some(report(&failure, now));
                }
            }
        }
        Ok(())
    }

    fn interrupted(&mut self, begun: i64) {
        self.state.interrupted(begun);
        self.report = Some(report(&Failure::Interrupted, begun));
    }

    /// Lives on until the keeper stops.
    pub(super) async fn run(mut self) {
        let mut stop = self.stop.clone();
        loop {
            let now = self.around.clock.now_unix_s();
            let step = plan::next_step(&self.state, now, self.random);
            self.publish(now, step == Step::Order);
            match step {
                Step::Revoke => self.carry_out_revocation(now).await,
                Step::Order => self.order(now).await,
                Step::AskWindow => self.ask_window(now).await,
                Step::Wait { until, .. } => {
                    let time = until.saturating_sub(now).unsigned_abs().min(LONGEST_SLEEP_S);
                    let ask = tokio::select! {
                        () = self.around.clock.sleep(Duration::from_secs(time)) => None,
                        ask = self.asks.recv() => match ask {
                            Some(ask) => Some(ask),
                            None => return,
                        },
                        _ = stop.wait_for(|stop| *stop) => return,
                    };
                    if let Some(ask) = ask {
                        self.asked(ask).await;
                    }
                }
            }
            if *stop.borrow() {
                return;
            }
        }
    }

    /// One try. Whatever comes of it, the next step is a wait.
    async fn order(&mut self, now: i64) {
        let issued = match self.unkept.take() {
            Some(issued) => Ok(issued),
            None => {
                // Written down first: a server that dies of its orders makes no more of them than one that lives.
                self.state.begun = Some(now);
                self.state.begun_over = self.certificate.as_ref().map(fingerprint);
                match self.save().await {
                    Ok(()) => self.issue().await,
                    Err(error) => Err(Failed { failure: error.into(), retry_after_s: None }),
                }
            }
        };
        let ended = self.around.clock.now_unix_s();
        match issued {
            Ok(issued) => self.keep(issued, ended).await,
            Err(Failed { failure: Failure::Interrupted, .. }) => {
                self.state.begun = None;
                let _ = self.save().await;
            }
            Err(failed) => self.failed(&failed, ended).await,
        }
    }

    async fn issue(&self) -> Result<Issued, Failed> {
        let old = self.certificate.as_ref().filter(|_| self.is_own);
        let request = Request {
            wanted: &self.wanted,
            old: old.map(|old| old.chain_pem.as_str()),
            turn: self.state.failures(),
            clock: &*self.around.clock,
            stop: self.stop.clone(),
        };
        self.around.source.issue(&request).await
    }

    async fn keep(&mut self, issued: Issued, now: i64) {
        let Issued { certificate, held } = &issued;
        let origin = self.around.source.origin();
        let kept = &*self.around.kept;
        if let Err(error) =
            records::write_certificate(kept, &self.places.certificate, certificate, held.taken_at, origin).await
        {
            self.unkept = Some(issued);
            return self.failed(&Failed { failure: error.into(), retry_after_s: None }, now).await;
        }
        self.state.succeeded(*held);
        (self.random, self.report, self.is_own) = (draw(), None, true);
        (self.around.on_certificate)(certificate);
        tracing::info!(names = ?certificate.names, until_unix_s = held.not_after, "a certificate came");
        self.certificate = Some(issued.certificate);
        // If this cannot be kept, the last thing that was is a try that began: what came after it tells how it ended.
        let _ = self.save().await;
    }

    async fn failed(&mut self, failed: &Failed, now: i64) {
        self.state.failed(failed.failure.pace(), failed.retry_after_s, now);
        let report = report(&failed.failure, now);
        tracing::warn!(names = ?self.wanted.names(), why = report.why, remedy = report.remedy, "no certificate came");
        self.report = Some(report);
        let _ = self.save().await;
    }

    async fn ask_window(&mut self, now: i64) {
        let Some(certificate) = &self.certificate else { return self.state.window_failed(now) };
        match self.around.source.window(&certificate.chain_pem).await {
            Ok((window, ask_again_s)) => self.state.told_window(window, ask_again_s, now),
            Err(failure) => {
                tracing::debug!(%failure, "the directory did not say when it would have a certificate renewed");
                self.state.window_failed(now);
            }
        }
        let _ = self.save().await;
    }

    async fn asked(&mut self, ask: Ask) {
        let now = self.around.clock.now_unix_s();
        // Whoever asked may have gone.
        match ask {
            Ask::Renew(reply) => {
                let _ = reply.send(self.renew(now).await);
            }
            Ask::Revoke(reply) => {
                let _ = reply.send(self.revoke().await);
            }
        }
    }

    async fn renew(&mut self, now: i64) -> Result<(), AskError> {
        if let Some(early) = self.state.too_early(now) {
            return Err(AskError::TooEarly(early));
        }
        self.state.ask();
        self.save().await.map_err(|error| refused(&error.into()))
    }

    /// Writes down that the certificate is to be declared void. It is the next step, also of a server that ends here.
    async fn revoke(&mut self) -> Result<(), AskError> {
        if self.state.is_void {
            return Ok(());
        }
        // The one before is still to be declared void.
        if self.state.revocation.is_some() {
            return Err(AskError::Busy);
        }
        let certificate = self.certificate.as_ref().filter(|_| self.is_own).ok_or(AskError::None)?;
        self.around.source.can_revoke().map_err(|failure| refused(&failure))?;
        let leaf = certificate::leaf(&certificate.chain_pem).map_err(|failure| refused(&failure))?;
        let before = self.state.clone();
        self.state.revoke(BASE64.encode(&leaf), certificate.not_after_unix_s);
        let saved = self.save().await;
        if saved.is_err() {
            self.state = before;
        }
        saved.map_err(|error| refused(&error.into()))
    }

    async fn carry_out_revocation(&mut self, now: i64) {
        let Some(revocation) = &mut self.state.revocation else { return };
        let names = self.wanted.names();
        match self.around.source.revoke(&revocation.leaf).await {
            Ok(()) => {
                tracing::info!(?names, "a certificate was declared void");
                self.state.revocation = None;
            }
            // The directory's clock says so, too: before it refuses anything, the two are compared.
            Err(Failed { failure: Failure::Refused { .. }, .. }) if revocation.not_after <= now => {
                tracing::warn!(?names, "a certificate was over before it was declared void");
                self.state.revocation = None;
            }
            Err(Failed { failure, retry_after_s }) => {
                let report = report(&failure, self.around.clock.now_unix_s());
                tracing::warn!(
                    ?names,
                    why = report.why,
                    remedy = report.remedy,
                    "a certificate is not declared void yet"
                );
                revocation.failed(failure.pace(), retry_after_s, report);
            }
        }
        // If this cannot be kept, the directory is asked once more, which does no harm.
        let _ = self.save().await;
    }

    async fn save(&self) -> Result<(), KeptError> {
        let attempts = Attempts {
            format: ATTEMPTS_FORMAT,
            origin: self.around.source.origin().to_owned(),
            random: self.random,
            state: self.state.clone(),
            report: self.report.clone(),
        };
        let saved = kept::write(&*self.around.kept, &self.places.attempts, &attempts).await;
        if let Err(error) = &saved {
            tracing::warn!(names = ?self.wanted.names(), %error, "how tries for a certificate went cannot be kept");
        }
        saved
    }

    fn publish(&self, now: i64, is_ordering: bool) {
        let next_try_unix_s = match plan::next_step(&self.state, now, self.random) {
            Step::Wait { order_at, .. } => order_at,
            Step::Revoke | Step::Order | Step::AskWindow => now,
        };
        let valid_until_unix_s = self.state.held.map(|held| held.not_after);
        let valid = valid_until_unix_s.filter(|until| *until > now);
        let state = match (is_ordering, valid, &self.report) {
            (false, Some(until_unix_s), None) => {
                CertificateState::Good { until_unix_s, renews_at_unix_s: next_try_unix_s }
            }
            (false, Some(_), Some(report)) => {
                CertificateState::Waiting { next_try_unix_s, why: report.why.clone(), remedy: report.remedy.clone() }
            }
            (false, None, Some(report)) => {
                CertificateState::Failed { next_try_unix_s, why: report.why.clone(), remedy: report.remedy.clone() }
            }
            (true, _, _) | (false, None, None) => CertificateState::Ordering,
        };
        let status = CertificateStatus {
            names: self.wanted.names(),
            state,
            valid_until_unix_s,
            last_failure: self.report.clone(),
            too_early: self.state.too_early(now),
            is_void: self.state.is_void,
            revoking: self.state.revocation.as_ref().map(|revocation| Revoking {
                next_try_unix_s: revocation.due(now),
                failure: revocation.failure.clone(),
            }),
        };
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

/// What tells a certificate from the one before it.
fn fingerprint(certificate: &Certificate) -> String {
    kept::place("chain", &[&certificate.chain_pem])
}

fn report(failure: &Failure, now: i64) -> FailureReport {
    FailureReport { at_unix_s: now, why: failure.to_string(), remedy: failure.remedy() }
}

fn refused(failure: &Failure) -> AskError {
    AskError::Failed { why: failure.to_string(), remedy: failure.remedy() }
}

/// A number for one certificate, so that not all are renewed at once. It is no secret: without randomness it is 0.
fn draw() -> u64 {
    let mut bytes = [0; 8];
    let _ = SystemRandom::new().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
