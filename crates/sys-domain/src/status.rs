//! How everything stands, in words. Pure: from what the keeper left behind.
//!
//! Each thing that is wrong says what to do. GREEN means that there is nothing to do; ATTENTION that all works meanwhile; BROKEN that
//! something does not.

mod dns;
mod tls;

pub(crate) use dns::dns;
pub(crate) use tls::{covers, tls};

use crate::{facts::Trouble, wire::Finding};
use prost_types::Timestamp;

pub(crate) const GREEN: &str = "GREEN";
pub(crate) const ATTENTION: &str = "ATTENTION";
pub(crate) const BROKEN: &str = "BROKEN";

/// What was found, the worst first.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn attention(&mut self, about: impl ToString, problem: impl Into<String>, remedy: impl Into<String>) {
        self.add(ATTENTION, about, problem, remedy);
    }

    fn broken(&mut self, about: impl ToString, problem: impl Into<String>, remedy: impl Into<String>) {
        self.add(BROKEN, about, problem, remedy);
    }

    fn add(&mut self, state: &str, about: impl ToString, problem: impl Into<String>, remedy: impl Into<String>) {
        let (about, problem, remedy) = (about.to_string(), problem.into(), remedy.into());
        self.0.push(Finding { about, state: state.to_owned(), problem, remedy });
    }

    fn troubles(&mut self, troubles: &[Trouble]) {
        for trouble in troubles {
            let state = if trouble.is_broken { BROKEN } else { ATTENTION };
            self.add(state, &trouble.about, trouble.problem.clone(), trouble.remedy.clone());
        }
    }

    /// The worst state, a sentence on it, and the findings in their order.
    fn end(mut self, good: &str) -> (String, String, Vec<Finding>) {
        self.0.sort_by_key(|finding| finding.state != BROKEN);
        let Some(worst) = self.0.first() else { return (GREEN.to_owned(), good.to_owned(), Vec::new()) };
        let more = match self.0.len().saturating_sub(1) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let summary = format!("{}: {}{more}", worst.about, worst.problem);
        (worst.state.clone(), summary, self.0)
    }
}

fn timestamp(unix_s: i64) -> Timestamp {
    Timestamp { seconds: unix_s, nanos: 0 }
}

#[cfg(test)]
mod tests;
