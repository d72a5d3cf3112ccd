//! Where in a JSON text a position is, as a reader would say it: `rules[0].when.contains`.

/// One level around the position.
enum Level {
    /// In an object, at this key; `None` before the first key and after each value.
    Object(Option<String>),
    /// In an array, at this index.
    Array(usize),
}

/// The path of the value that a parser had read up to this line and column, both as it counts them.
/// The text may be broken from there on.
pub(super) fn path_at(text: &str, line: usize, column: usize) -> String {
    let line_start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let end = text.floor_char_boundary(line_start.saturating_add(column));
    let path: String = levels(text.get(..end).unwrap_or(text)).iter().map(shown).collect();
    match path.strip_prefix('.') {
        Some(path) => path.to_owned(),
        None if path.is_empty() => "the top".to_owned(),
        None => path,
    }
}

fn shown(level: &Level) -> String {
    match level {
        Level::Object(Some(key)) => {
            format!(".{}", key.chars().take(64).flat_map(char::escape_debug).collect::<String>())
        }
        Level::Object(None) => String::new(),
        Level::Array(index) => format!("[{index}]"),
    }
}

fn levels(text: &str) -> Vec<Level> {
    let mut levels = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (c, levels.last_mut()) {
            ('{', _) => levels.push(Level::Object(None)),
            ('[', _) => levels.push(Level::Array(0)),
            ('}' | ']', _) => {
                levels.pop();
            }
            (',', Some(Level::Object(key))) => *key = None,
            (',', Some(Level::Array(index))) => *index += 1,
            ('"', Some(Level::Object(key @ None))) => *key = Some(string(&mut rest)),
            ('"', _) => {
                string(&mut rest);
            }
            _ => {}
        }
    }
    levels
}

/// The rest of a string. An escape is kept as it is written.
fn string(rest: &mut std::str::Chars<'_>) -> String {
    let mut text = String::new();
    while let Some(c) = rest.next().filter(|c| *c != '"') {
        text.push(c);
        if c == '\\' {
            text.extend(rest.next());
        }
    }
    text
}
