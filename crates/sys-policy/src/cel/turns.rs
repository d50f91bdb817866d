//! When a condition that names `now` may next be decided otherwise, as long as nothing but time goes on.
//!
//! For those who keep an answer: until that moment it stands. Time moves one side of a comparison along the other, so
//! that the moment can be reckoned; what cannot be reckoned is to be asked again every second.

use super::{
    eval::{Env, Scalar},
    ir::{Comparison, Ir, Leaf, Operand},
    time::Now,
};
use std::cmp::Ordering;

/// After how long a test on `now` is asked again that is no comparison (`now in [..]`), in nanoseconds.
const ASK_AGAIN_NANOS: i128 = 1_000_000_000;

/// Whether a condition's answer depends on the time at all.
pub(crate) fn names_now(ir: &Ir) -> bool {
    ir.leaves().into_iter().any(leaf_names_now)
}

/// The first moment after `env.now` at which some leaf may be decided otherwise; none if time changes nothing more.
pub(crate) fn next_turn(ir: &Ir, env: &Env<'_>) -> Option<Now> {
    ir.leaves().into_iter().filter_map(|leaf| turn(leaf, env)).min()
}

fn leaf_names_now(leaf: &Leaf) -> bool {
    match leaf {
        Leaf::Compare(_, a, b) => a.moves() || b.moves(),
        Leaf::InLiterals(a, _) | Leaf::InList(a, _) => a.moves(),
        Leaf::Has(_) | Leaf::Bool(_) | Leaf::Text(..) => false,
    }
}

fn turn(leaf: &Leaf, env: &Env<'_>) -> Option<Now> {
    match leaf {
        // Where both sides move they keep their distance.
        Leaf::Compare(by, a, b) => match (a.moves(), b.moves()) {
            (true, false) => meeting(*by, a, b, env, [Ordering::Less, Ordering::Greater]),
            (false, true) => meeting(*by, b, a, env, [Ordering::Greater, Ordering::Less]),
            (true, true) | (false, false) => None,
        },
        Leaf::InLiterals(..) | Leaf::InList(..) if leaf_names_now(leaf) => Some(env.now.plus(ASK_AGAIN_NANOS)),
        Leaf::InLiterals(..) | Leaf::InList(..) | Leaf::Has(_) | Leaf::Bool(_) | Leaf::Text(..) => None,
    }
}

/// When a comparison turns because its moving side meets the other or leaves it behind. `around` is how the left side stands
/// to the right one before they meet, and afterwards.
fn meeting(by: Comparison, moving: &Operand, still: &Operand, env: &Env<'_>, around: [Ordering; 2]) -> Option<Now> {
    let (Scalar::Timestamp(moving), Scalar::Timestamp(still)) = (moving.read(env)?, still.read(env)?) else {
        return None;
    };
    let away = still.since(moving);
    let [before, after] = around.map(|order| by.holds(Some(order)));
    let met = by.holds(Some(Ordering::Equal));
    match away {
        1.. if before != met => Some(env.now.plus(away)),
        0.. if met != after => Some(env.now.plus(away + 1)),
        _ => None,
    }
}

impl Operand {
    /// Whether its value goes on with time.
    fn moves(&self) -> bool {
        match self {
            Self::Now | Self::NowPlus(_) | Self::NowMinus(_) => true,
            Self::Path(_) | Self::Literal(_) => false,
        }
    }
}
