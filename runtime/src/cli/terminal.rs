//! What people see. Text that comes from a guest never reaches a terminal raw.

use std::io::{IsTerminal as _, Write as _};
use std::sync::OnceLock;

use crate::host_api::trace::{Colour, TreeStyle};
use crate::host_api::{sanitize_line, sanitize_text};

/// Says what went wrong, in one sentence.
pub(super) fn error(message: &str) {
    line(&format!("error: {}", sanitize_text(message)));
}

/// Says something on stderr. A closed stderr is no reason to fail.
pub(super) fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Puts the workload's output on stdout: as it is, unless somebody looks.
pub(super) fn output(bytes: &[u8]) -> std::io::Result<()> {
    match write_output(bytes) {
        // Who reads no more has what it wants.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn write_output(bytes: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    if stdout.is_terminal() {
        let text = String::from_utf8_lossy(bytes);
        stdout.write_all(sanitize_text(&text).as_bytes())?;
        if !text.is_empty() && !text.ends_with('\n') {
            stdout.write_all(b"\n")?;
        }
    } else {
        stdout.write_all(bytes)?;
    }
    stdout.flush()
}

/// JSON in which no character can steer a terminal: what JSON itself allows unescaped is escaped too.
pub(super) fn json(value: &impl serde::Serialize) -> anyhow::Result<String> {
    let pretty = std::io::stdout().is_terminal();
    let text = if pretty { serde_json::to_string_pretty(value)? } else { serde_json::to_string(value)? };
    if text.chars().all(|c| c == '\n' || sanitize_line(c.encode_utf8(&mut [0; 4])).len() == c.len_utf8()) {
        return Ok(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || sanitize_line(c.encode_utf8(&mut [0; 4])).len() == c.len_utf8() {
            safe.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}")));
        }
    }
    Ok(safe)
}

/// A count with separators: `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// Whether stderr is a terminal that gets colours.
pub(super) fn colour_on_stderr() -> bool {
    std::io::stderr().is_terminal() && COLOUR.get() == Some(&Colour::Ansi)
}

/// A spinner on a terminal, nothing elsewhere.
pub(super) fn spinner(message: String, quiet: bool) -> indicatif::ProgressBar {
    let bar = if quiet { indicatif::ProgressBar::hidden() } else { indicatif::ProgressBar::new_spinner() };
    let style = indicatif::ProgressStyle::with_template("{spinner} {msg} {elapsed}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(message);
    bar
}

/// How a tree of calls is drawn on stderr.
pub(super) fn tree_style() -> TreeStyle {
    if !std::io::stderr().is_terminal() {
        return TreeStyle { width: 160, ..TreeStyle::default() };
    }
    let width = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(100, |size| usize::from(size.ws_col).max(40));
    TreeStyle { width, colour: COLOUR.get().copied().unwrap_or(Colour::Never), ascii: false }
}

/// Whether a terminal gets colours. The environment is asked once, at start.
static COLOUR: OnceLock<Colour> = OnceLock::new();

/// Reads what the environment says of the terminal: what <https://no-color.org> and dumb terminals ask for.
pub(super) fn start() {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let wants_none = set("NO_COLOR").is_some() || set("TERM").is_none_or(|term| term == "dumb");
    // What draws progress remembers what it finds.
    let _ = (console::colors_enabled(), console::colors_enabled_stderr(), console::Term::stderr().features());
    COLOUR.get_or_init(|| if wants_none { Colour::Never } else { Colour::Ansi });
}
