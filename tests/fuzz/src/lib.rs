//! What the fuzz targets share. Everything here may panic: that is how a target says what it found.

pub mod guest;
pub mod host;
pub mod mutate;
pub mod panics;
pub mod program;
pub mod schema;
pub mod take;

/// One time in so many. Input that has run out is all zeros, which must not mean what is rare.
pub fn rarely(times: u32, u: &mut arbitrary::Unstructured<'_>) -> arbitrary::Result<bool> {
    Ok(u.int_in_range(0..=times - 1)? == times - 1)
}
