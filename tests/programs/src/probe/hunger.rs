//! Actions that take all they can get.

use std::hint::black_box;
use std::io::Write;
use std::mem;
use std::time::Duration;

use holm_guest::events::{self, Level};
use holm_guest::{execution, llm, trace};
use serde::Deserialize;
use serde_json::json;

use crate::Outcome;

pub fn spin() -> ! {
    let mut turns = 0u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Without memory of its own a frame lies on the host's stack alone, so that is what runs out; twice in each frame,
/// so that no optimiser makes a loop of it.
#[allow(unconditional_recursion)]
#[inline(never)]
pub fn recurse(depth: u64) -> u64 {
    recurse(depth + 1) ^ recurse(depth + 2).rotate_left(1)
}

/// Returns how many bytes it got. Without a limit of its own it ends in an abort of the allocator.
pub fn grow(bytes: Option<usize>) -> usize {
    const STEP: usize = 1 << 20;
    let mut memory: Vec<Vec<u8>> = Vec::new();
    let mut taken = 0;
    while bytes.is_none_or(|bytes| taken < bytes) {
        let step = bytes.map_or(STEP, |bytes| STEP.min(bytes - taken));
        memory.push(black_box(vec![1; step]));
        taken += step;
    }
    taken
}

pub fn sleep_forever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

pub fn host_calls(count: u64) -> u64 {
    (0..count).filter(|_| !execution::is_cancelled()).count() as u64
}

/// The same thing over and over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    count: Option<u64>,
    #[serde(default = "default_bytes")]
    bytes: usize,
    #[serde(default)]
    stubborn: bool,
}

fn default_bytes() -> usize {
    64
}

impl Flood {
    pub fn logs(self) -> Outcome {
        let text = self.text();
        self.run(|_| events::log(Level::Info, &text))
    }

    pub fn events(self) -> Outcome {
        let text = self.text();
        self.run(|_| events::emit("flood", &text))
    }

    pub fn progress(self) -> Outcome {
        let text = self.text();
        self.run(|done| events::progress(done, self.count, &text))
    }

    pub fn calls(self) -> Outcome {
        let text = self.text();
        self.run(|_| trace::call("flood", &text)?.finish(&text))
    }

    pub fn objects(self) -> Outcome {
        let text = self.text();
        self.run(|number| trace::publish("flood", &json!({ "number": number, "text": text })))
    }

    pub fn lines(self, mut to: impl Write) -> Outcome {
        let text = self.text();
        self.run(|_| writeln!(to, "{text}"))
    }

    pub fn requests(self) -> Outcome {
        let text = self.text();
        self.run(|_| llm::request().user(&text).submit().map(mem::forget))
    }

    fn text(&self) -> String {
        "x".repeat(self.bytes)
    }

    /// Returns how often it was let, and how often not.
    fn run<T, E: ToString>(&self, mut once: impl FnMut(u64) -> Result<T, E>) -> Outcome {
        let (mut done, mut denied) = (0u64, 0u64);
        while self.count.is_none_or(|count| done + denied < count) {
            match once(done + denied) {
                Ok(_) => done += 1,
                Err(_) if self.stubborn => denied += 1,
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(json!({ "done": done, "denied": denied }))
    }
}
