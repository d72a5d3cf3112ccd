//! What the values of options look like.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytesize::ByteSize;

use crate::host_api::wasi::{Preopen, SCRATCH_GRANT};
use crate::host_api::{Budget, BudgetName, CapabilitySet, Grant, Grants};

/// The unit in which memory grows.
const WASM_PAGE_BYTES: u64 = 64 << 10;

/// `KEY=VALUE`.
pub(super) fn key_value(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => bail!("write KEY=VALUE"),
    }
}

/// `HOST::GUEST[:ro]`.
pub(super) fn dir(text: &str) -> anyhow::Result<Preopen> {
    let (text, writable) = match text.strip_suffix(":ro") {
        Some(rest) => (rest, false),
        None => (text.strip_suffix(":rw").unwrap_or(text), true),
    };
    match text.split_once("::") {
        // A colon is a mistyped `:ro`, and the folder would be writable.
        Some((host, guest)) if !host.is_empty() && !guest.is_empty() && !guest.contains(':') => {
            Ok(Preopen { host: PathBuf::from(host), guest: guest.to_owned(), writable })
        }
        _ => bail!(
            "write HOST::GUEST, or HOST::GUEST:ro for a folder that the workload cannot change; GUEST has no colon"
        ),
    }
}

/// A path that a guest sees.
pub(super) fn guest_path(text: &str) -> anyhow::Result<String> {
    if text.is_empty() {
        bail!("write the path that the workload sees, such as /scratch");
    }
    Ok(text.to_owned())
}

/// A limit of one of the budgets that have an option of their own: `unlimited`, or what `read` reads.
fn or_unlimited(text: &str, read: impl Fn(&str) -> anyhow::Result<u64>) -> anyhow::Result<u64> {
    if text == "unlimited" { Ok(Budget::UNLIMITED) } else { read(text) }
}

/// Units of fuel.
pub(super) fn fuel(text: &str) -> anyhow::Result<u64> {
    or_unlimited(text, count)
}

/// A size of memory.
pub(super) fn memory(text: &str) -> anyhow::Result<u64> {
    or_unlimited(text, |text| match bytes(text)? {
        small @ ..WASM_PAGE_BYTES => bail!("{small} bytes are less than a page of memory, which has 64KiB"),
        enough => Ok(enough),
    })
}

/// A time with its unit, so that nobody has to guess it.
pub(super) fn timeout(text: &str) -> anyhow::Result<u64> {
    or_unlimited(text, |text| {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            bail!("write the unit too, such as {text}s or {text}ms");
        }
        match millis(text)? {
            0 => bail!("the shortest time is 1ms"),
            time => Ok(time),
        }
    })
}

/// A number, with `_` between digits and K, M, G or T for powers of a thousand.
pub(super) fn count(text: &str) -> anyhow::Result<u64> {
    let digits = text.replace('_', "");
    let scale = match digits.chars().last() {
        Some('K' | 'k') => 1_000,
        Some('M') => 1_000_000,
        Some('G') => 1_000_000_000,
        Some('T') => 1_000_000_000_000,
        _ => 1,
    };
    let digits = if scale == 1 { digits.as_str() } else { digits.get(..digits.len() - 1).unwrap_or_default() };
    let number: u64 = digits.parse().ok().context("write a number, such as 5000000 or 5M")?;
    number.checked_mul(scale).context("this number is too large")
}

/// A size in bytes, such as `64MiB`.
pub(super) fn bytes(text: &str) -> anyhow::Result<u64> {
    text.parse::<ByteSize>().map(|size| size.as_u64()).ok().context("write a size, such as 64MiB")
}

/// A duration in milliseconds, such as `30s`.
pub(super) fn millis(text: &str) -> anyhow::Result<u64> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let duration: Duration = humantime::parse_duration(text).ok().context("write a time, such as 30s or 500ms")?;
    Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// `NAME=VALUE`, the value in the budget's unit, or `unlimited`.
pub(super) fn limit(text: &str) -> anyhow::Result<(BudgetName, u64)> {
    let (name, value) = key_value(text).context("write NAME=VALUE; `runtime limits` lists the names")?;
    let name: BudgetName = name.parse()?;
    let read = match name.as_str() {
        name if name.ends_with("_bytes") => bytes,
        name if name.ends_with("_ms") => millis,
        _ => count,
    };
    Ok((name, or_unlimited(&value, read)?))
}

/// The grants that were given, or all where none was.
pub(super) fn grants(given: &[String], capabilities: &CapabilitySet) -> anyhow::Result<Grants> {
    if given.is_empty() {
        return Ok(Grants::all());
    }
    match given {
        [one] if one == "all" => return Ok(Grants::all()),
        [one] if one == "none" => return Ok(Grants::none()),
        several if several.iter().any(|one| one == "all" || one == "none") => {
            bail!("`all` and `none` stand alone");
        }
        _ => {}
    }
    let grants = given.iter().map(|text| text.parse::<Grant>()).collect::<Result<Grants, _>>()?;
    for (name, function) in grants.named() {
        if name == SCRATCH_GRANT && function.is_none() {
            continue;
        }
        let Some(capability) = capabilities.find(name) else {
            let known = capabilities.iter().filter(|c| c.needs_grant()).map(|c| c.name());
            let known: Vec<_> = known.chain([SCRATCH_GRANT]).collect();
            bail!("there is no capability `{name}` to grant; there are {}", known.join(", "));
        };
        let functions = capability.functions();
        if let Some(function) = function
            && !functions.is_empty()
            && !functions.contains(&function)
        {
            bail!("`{name}` has no function `{function}` to grant; it has {}", functions.join(", "));
        }
    }
    Ok(grants)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;

    #[test]
    fn numbers_sizes_and_times() {
        assert_eq!(count("5_000").unwrap(), 5_000);
        assert_eq!(count("2G").unwrap(), 2_000_000_000);
        assert_eq!(bytes("64MiB").unwrap(), 64 << 20);
        assert_eq!(timeout("1500ms").unwrap(), 1_500);
        for wrong in ["", "x", "-1", "1e9", "99999999999999T"] {
            assert!(count(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["30", "0s", "0"] {
            assert!(timeout(wrong).is_err(), "{wrong:?}");
        }
        assert!(memory("64").is_err() && memory("64KiB").is_ok());
    }

    #[test]
    fn limits_take_the_unit_of_their_name() {
        assert_eq!(limit("wall_ms=2s").unwrap(), (BudgetName::WallMs, 2_000));
        assert_eq!(limit("output_bytes=1KiB").unwrap(), (BudgetName::OutputBytes, 1024));
        assert_eq!(limit("events=unlimited").unwrap(), (BudgetName::Events, Budget::UNLIMITED));
        assert!(limit("evnts=1").is_err());
    }

    #[test]
    fn folders_are_writable_unless_read_only() {
        assert!(dir("/a::/b").unwrap().writable);
        assert_eq!(
            dir("./x::/data:ro").unwrap(),
            Preopen { host: "./x".into(), guest: "/data".into(), writable: false }
        );
        for wrong in ["/a", "::/b", "/a::", "", "/a::/b:RO", "/a::/b:ro:ro"] {
            assert!(dir(wrong).is_err(), "{wrong:?}");
        }
    }
}
