//! Actions on WASI, by way of the standard library.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::Outcome;

/// Returns how long it took.
pub fn sleep(ms: u64) -> Value {
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(ms));
    json!({ "slept_ms": start.elapsed().as_millis() as u64 })
}

pub fn env() -> Value {
    json!(std::env::vars().collect::<BTreeMap<_, _>>())
}

pub fn args() -> Value {
    json!(std::env::args().collect::<Vec<_>>())
}

pub fn print(text: &str) -> Outcome {
    text_of(io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()))
}

pub fn read_file(path: &str) -> Outcome {
    text_of(fs::read_to_string(path))
}

pub fn write_file(path: &str, content: &str) -> Outcome {
    text_of(fs::write(path, content))
}

/// Returns the names in order.
pub fn list_dir(path: &str) -> Outcome {
    let names = |path| -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    };
    text_of(names(path))
}

pub fn random(bytes: usize) -> Outcome {
    unsafe extern "C" {
        /// The C library's; it gives at most 256 bytes a call.
        fn getentropy(buffer: *mut u8, length: usize) -> i32;
    }
    let mut random = vec![0; bytes];
    for chunk in random.chunks_mut(256) {
        // Sound: the buffer is as long as it is said to be.
        if unsafe { getentropy(chunk.as_mut_ptr(), chunk.len()) } != 0 {
            return Err(io::Error::last_os_error().to_string());
        }
    }
    Ok(json!(random.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

/// Returns the wall clock, and how long a millisecond's sleep takes on the monotonic one.
pub fn clock() -> Value {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(1));
    json!({
        "unix_ms": since_1970.as_millis() as u64,
        "monotonic_us": start.elapsed().as_micros() as u64,
    })
}

fn text_of<T: serde::Serialize>(result: io::Result<T>) -> Outcome {
    result.map(|value| json!(value)).map_err(|error| error.to_string())
}
