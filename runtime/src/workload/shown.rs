//! Text from a module that nobody trusts, made fit to print.

use holm_host_api::sanitize_line;

/// Longest name that is printed, in characters.
pub(super) const NAME_CHARS_MAX: usize = 200;

/// Longest message of a parser that is printed, in characters.
pub(super) const MESSAGE_CHARS_MAX: usize = 400;

/// `text` with at most `chars_max` characters (`…` stands for the rest), and escapes in place of
/// whatever could steer a terminal, reorder a line or be drawn as nothing.
pub(super) fn shown(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max).and_then(|(end, _)| text.get(..end)) {
        Some(beginning) => format!("{}…", sanitize_line(beginning)),
        None => sanitize_line(text).into_owned(),
    }
}

/// The first `names_max` names in backquotes, and how many more there are.
pub(super) fn shown_list<S: AsRef<str>>(names: &[S], names_max: usize) -> String {
    let mut out: Vec<String> =
        names.iter().take(names_max).map(|name| format!("`{}`", shown(name.as_ref(), NAME_CHARS_MAX))).collect();
    if names.len() > names_max {
        out.push(format!("{} more", names.len() - names_max));
    }
    out.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        let steering = "a\x1b[31mb\r\nc\u{7f}\u{9b}\u{202e}é`";
        assert_eq!(shown(steering, 99), "a\\u{1b}[31mb\\r\\nc\\u{7f}\\u{9b}\\u{202e}é`");
    }

    #[test]
    fn what_is_drawn_as_nothing_is_escaped() {
        assert_eq!(shown("r\u{34f}un\u{fe00}\u{e0041}", 99), "r\\u{34f}un\\u{fe00}\\u{e0041}");
    }

    #[test]
    fn what_is_long_is_cut() {
        assert_eq!(shown("äöüß", 3), "äöü…");
        assert_eq!(shown("äöü", 3), "äöü");
        assert_eq!(shown_list(&["a", "b", "c"], 2), "`a`, `b`, 1 more");
    }
}
