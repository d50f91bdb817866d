//! Tests of the crate as a whole: decisions and plans against a naive oracle, filters, fields, the example of the design.

mod decisions;
mod example;
pub(crate) mod fixture;
mod lists;
mod model;
