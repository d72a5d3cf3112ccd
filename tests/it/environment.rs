//! No environment variable is read after start, or ever written.

use std::path::Path;

use crate::support::repository;

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn only_the_command_and_its_configuration_know_of_the_environment() {
    let mut found = Vec::new();
    for folder in ["host-api/src", "runtime/src"] {
        sources(&repository().join(folder), &mut found);
    }
    assert!(found.len() > 40, "the sources are somewhere else now");
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        let shown = path.display();
        for writes in ["set_var", "remove_var"] {
            assert!(!text.contains(writes), "{shown} writes to the environment");
        }
        let may_read = path.ends_with("config.rs") || path.components().any(|part| part.as_os_str() == "cli");
        for reads in ["env::var", "env::vars", "getenv", "temp_dir()", "from_env"] {
            assert!(may_read || !text.contains(reads), "{shown} reads the environment: {reads}");
        }
    }
}
