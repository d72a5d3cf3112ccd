//! Text of a guest, made safe to show.
//!
//! A terminal obeys what it is shown: escape sequences move the cursor, set titles and paste; direction
//! overrides and invisible characters make text read as what it is not. So they are shown escaped, such
//! as `\u{1b}`.

use std::borrow::Cow;
use std::fmt::Write as _;

/// For one line: line breaks and tabs are escaped too.
pub fn sanitize_line(text: &str) -> Cow<'_, str> {
    sanitize(text, unsafe_to_show)
}

/// For text of several lines: line feeds and tabs stay. A carriage return does not, since what follows it
/// would overwrite the line.
pub fn sanitize_text(text: &str) -> Cow<'_, str> {
    sanitize(text, |c| c != '\n' && c != '\t' && unsafe_to_show(c))
}

fn sanitize(text: &str, escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    let Some((safe, rest)) = text.find(&escaped).and_then(|first| text.split_at_checked(first)) else {
        return Cow::Borrowed(text);
    };
    let mut shown = String::with_capacity(text.len() + 16);
    shown.push_str(safe);
    for c in rest.chars() {
        match c {
            c if !escaped(c) => shown.push(c),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            // Writing to a string cannot fail.
            c => _ = write!(shown, "\\u{{{:x}}}", u32::from(c)),
        }
    }
    Cow::Owned(shown)
}

/// Control characters (C0, DEL, C1), line separators, direction marks, and what Unicode calls default
/// ignorable, which is drawn as nothing. The two variation selectors that emoji need are left alone.
fn unsafe_to_show(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0d}'
            | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_escaped() {
        assert_eq!(sanitize_line("\x1b]0;title\x07\x1b[2J"), "\\u{1b}]0;title\\u{7}\\u{1b}[2J");
        assert_eq!(sanitize_line("a\u{9b}31m"), "a\\u{9b}31m");
        assert_eq!(sanitize_line("exe\u{202e}gpj.\u{2066}x\u{200b}y"), "exe\\u{202e}gpj.\\u{2066}x\\u{200b}y");
        assert_eq!(sanitize_line("50%\r99%\n\t"), "50%\\r99%\\n\\t");
        assert_eq!(sanitize_text("50%\r99%\n\tdone\x7f"), "50%\\r99%\n\tdone\\u{7f}");
    }

    #[test]
    fn harmless_text_is_not_copied() {
        for text in ["", "plain", "grüße 你好 ✔\u{fe0f} \\u{1b}"] {
            assert!(matches!(sanitize_line(text), Cow::Borrowed(same) if same == text));
        }
        assert!(matches!(sanitize_text("a\n\tb"), Cow::Borrowed(_)));
    }

    /// Any text, with the characters that matter much more often than chance has it.
    fn hostile() -> impl Strategy<Value = String> {
        let special =
            proptest::char::ranges(vec!['\0'..='\u{ff}', '\u{2000}'..='\u{206f}', '\u{fe00}'..='\u{ffff}'].into());
        proptest::collection::vec(prop_oneof![special, any::<char>()], 0..60).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn nothing_dangerous_is_left(text in hostile()) {
            let line = sanitize_line(&text);
            prop_assert!(!line.chars().any(unsafe_to_show));
            prop_assert_eq!(&sanitize_line(&line), &line);
            let text = sanitize_text(&text);
            prop_assert!(!text.chars().any(|c| unsafe_to_show(c) && c != '\n' && c != '\t'));
        }

        #[test]
        fn what_is_safe_stays(text in hostile()) {
            let kept: String = text.chars().filter(|c| !unsafe_to_show(*c)).collect();
            prop_assert_eq!(sanitize_line(&kept), kept.as_str());
        }
    }
}
