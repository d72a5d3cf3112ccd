//! What a workload imports, against what it is granted.

use super::error::IntakeError;
use super::inspect::Inspection;

/// Checks that every import is granted.
///
/// `offered` and `granted` are asked with the name of each import, `holm:host/llm@0.1.0` for one.
///
/// # Errors
/// Imports are not granted: the error names all of them.
pub fn check_imports(
    inspection: &Inspection,
    offered: impl Fn(&str) -> bool,
    granted: impl Fn(&str) -> bool,
) -> Result<(), IntakeError> {
    let denied = inspection.imports.iter().map(|import| &import.name).filter(|name| !granted(name));
    let (imports, unknown): (Vec<String>, Vec<String>) = denied.cloned().partition(|name| offered(name));
    if imports.is_empty() && unknown.is_empty() {
        return Ok(());
    }
    Err(IntakeError::ImportNotGranted { imports, unknown })
}

/// Splits `wasi:io/poll@0.2.3` into `wasi:io/poll` and `0.2.3`.
pub fn interface_of(import: &str) -> (&str, Option<&str>) {
    match import.split_once('@') {
        Some((interface, version)) => (interface, Some(version)),
        None => (import, None),
    }
}

/// Does a grant of `granted` cover `import`? It does if they name the same interface in versions that
/// semantic versioning calls compatible, whichever is newer: the engine links those. A grant without
/// a version covers all.
pub fn matches(granted: &str, import: &str) -> bool {
    let ((granted, granted_version), (import, import_version)) = (interface_of(granted), interface_of(import));
    let compatible = match (granted_version, import_version) {
        (None, _) => true,
        (Some(granted), Some(import)) => {
            granted == import || compatible(granted).is_some_and(|track| compatible(import) == Some(track))
        }
        (Some(_), None) => false,
    };
    granted == import && compatible
}

/// The first number of a version that is not zero, with what comes before it: versions that share it
/// are compatible. `None` for versions that are compatible with themselves alone (pre-releases, `0.0.x`).
fn compatible(version: &str) -> Option<(u64, u64)> {
    let release = version.split_once('+').map_or(version, |(release, _)| release);
    let mut numbers = release.split('.').map(|number| {
        let canonical =
            number.bytes().all(|digit| digit.is_ascii_digit()) && (number == "0" || !number.starts_with('0'));
        number.parse::<u64>().ok().filter(|_| canonical)
    });
    let (major, minor, _patch) = (numbers.next()??, numbers.next()??, numbers.next()??);
    match (numbers.next(), major, minor) {
        (Some(_), _, _) | (None, 0, 0) => None,
        (None, 0, minor) => Some((0, minor)),
        (None, major, _) => Some((major, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compatible_versions_match_in_both_directions() {
        for (granted, import) in [
            ("wasi:io/poll@0.2.12", "wasi:io/poll@0.2.3"),
            ("wasi:io/poll@0.2.3", "wasi:io/poll@0.2.12"),
            ("a:b/c@1.0.0", "a:b/c@1.9.3"),
            ("a:b/c@1.0.0", "a:b/c@1.2.3+build.5"),
            ("a:b/c@0.0.1", "a:b/c@0.0.1"),
            ("a:b/c@1.0.0-rc.1", "a:b/c@1.0.0-rc.1"),
            ("a:b/c", "a:b/c@7.0.0"),
            ("log", "log"),
        ] {
            assert!(matches(granted, import), "{granted} {import}");
        }
    }

    #[test]
    fn other_versions_and_names_do_not_match() {
        for (granted, import) in [
            ("wasi:io/poll@0.2.0", "wasi:io/poll@0.3.0"),
            ("wasi:io/poll@0.2.0", "wasi:io/streams@0.2.0"),
            ("a:b/c@1.0.0", "a:b/c@2.0.0"),
            ("a:b/c@1.0.0", "a:b/c@0.1.0"),
            ("a:b/c@0.0.1", "a:b/c@0.0.2"),
            ("a:b/c@1.0.0", "a:b/c@1.0.0-rc.1"),
            ("a:b/c@1.0.0", "a:b/c"),
            ("a:b/c@1.0.0", "a:b/c@1"),
            ("a:b/c@1.0.0", "a:b/c@1.0.0.0"),
            ("a:b/c@1.0.0", "a:b/c@+1.0.0"),
            ("a:b/c@1.0.0", "a:b/c@01.0.0"),
            ("a:b/c@1.0.0", "a:b/c@"),
        ] {
            assert!(!matches(granted, import), "{granted} {import}");
        }
    }
}
