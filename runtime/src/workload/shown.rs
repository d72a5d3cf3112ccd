//! Text from a module that nobody trusts, made fit to print.

/// Longest name that is printed, in characters.
pub(super) const NAME_CHARS_MAX: usize = 200;

/// Longest message of a parser that is printed, in characters.
pub(super) const MESSAGE_CHARS_MAX: usize = 400;

/// `text` with at most `chars_max` characters (`…` stands for the rest), and escapes in place of
/// whatever could steer a terminal or reorder a line.
pub(super) fn shown(text: &str, chars_max: usize) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    for c in chars.by_ref().take(chars_max) {
        if steers(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if chars.next().is_some() {
        out.push('…');
    }
    out
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

/// Control characters, and the invisible ones that change the direction of a line.
fn steers(c: char) -> bool {
    let invisible = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}');
    c.is_control() || invisible
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
    fn what_is_long_is_cut() {
        assert_eq!(shown("äöüß", 3), "äöü…");
        assert_eq!(shown("äöü", 3), "äöü");
        assert_eq!(shown_list(&["a", "b", "c"], 2), "`a`, `b`, 1 more");
    }
}
