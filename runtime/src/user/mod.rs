//! What a user may do, and their turn.

mod admission;

pub(crate) use admission::{Admission, Permit, Refusal, check};
