//! Reads a regular expression as far as it is needed to make strings that match it.

use std::iter::Peekable;
use std::str::Chars;

use super::Node;

/// Deepest nesting of groups.
const DEPTH_MAX: u32 = 16;

/// What an expression is made of; `None` if something in it is not understood.
pub(super) fn parse(pattern: &str) -> Option<Node> {
    let mut parser = Parser { rest: pattern.chars().peekable(), depth: 0 };
    let expression = parser.alternatives()?;
    // A closing bracket that nothing opened.
    parser.rest.next().is_none().then_some(expression)
}

struct Parser<'p> {
    rest: Peekable<Chars<'p>>,
    depth: u32,
}

impl Parser<'_> {
    fn alternatives(&mut self) -> Option<Node> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        let mut alternatives = vec![Vec::new()];
        loop {
            match self.rest.peek() {
                None | Some(')') => break,
                Some('|') => {
                    self.rest.next();
                    alternatives.push(Vec::new());
                }
                // Anchors say where a match is, not what it is made of.
                Some('^' | '$') => {
                    self.rest.next();
                }
                Some(_) => {
                    let atom = self.atom()?;
                    let node = self.repeated(atom)?;
                    alternatives.last_mut()?.push(node);
                }
            }
        }
        self.depth -= 1;
        Some(Node::Group(alternatives))
    }

    fn atom(&mut self) -> Option<Node> {
        match self.rest.next()? {
            '(' => {
                if self.rest.next_if_eq(&'?').is_some() {
                    self.rest.next_if_eq(&':')?;
                }
                let group = self.alternatives()?;
                self.rest.next_if_eq(&')')?;
                Some(group)
            }
            '[' => self.class(),
            '.' => Some(Node::Class(('a'..='z').collect())),
            '\\' => self.escape().map(|ranges| Node::Class(readable(&ranges, false))),
            '*' | '+' | '?' | '{' => None,
            literal => Some(Node::Class(vec![literal])),
        }
    }

    fn repeated(&mut self, node: Node) -> Option<Node> {
        let (least, most) = match self.rest.peek() {
            Some('*') => (0, u64::MAX),
            Some('+') => (1, u64::MAX),
            Some('?') => (0, 1),
            Some('{') => {
                self.rest.next();
                let inside: String = std::iter::from_fn(|| self.rest.next_if(|c| *c != '}')).collect();
                match inside.split_once(',') {
                    None => (inside.parse().ok()?, inside.parse().ok()?),
                    Some((least, "")) => (least.parse().ok()?, u64::MAX),
                    Some((least, most)) => (least.parse().ok()?, most.parse().ok()?),
                }
            }
            _ => return Some(node),
        };
        self.rest.next();
        // Lazy or greedy: the same strings match.
        self.rest.next_if_eq(&'?');
        Some(Node::Repeat(Box::new(node), least, most))
    }

    /// The characters of `\d` and the like, or of an escaped character.
    fn escape(&mut self) -> Option<Vec<(char, char)>> {
        Some(match self.rest.next()? {
            'd' => vec![('0', '9')],
            'w' => vec![('a', 'z'), ('A', 'Z'), ('0', '9'), ('_', '_')],
            's' => vec![(' ', ' ')],
            'D' => vec![('a', 'z'), ('A', 'Z')],
            'S' => vec![('a', 'z'), ('A', 'Z'), ('0', '9')],
            'W' => vec![('-', '-'), (' ', ' ')],
            'n' => vec![('\n', '\n')],
            't' => vec![('\t', '\t')],
            'p' => self.property()?,
            sign if !sign.is_alphanumeric() => vec![(sign, sign)],
            _ => return None,
        })
    }

    /// `\p{L}` and its like.
    fn property(&mut self) -> Option<Vec<(char, char)>> {
        self.rest.next_if_eq(&'{')?;
        let name: String = std::iter::from_fn(|| self.rest.next_if(|c| *c != '}')).collect();
        self.rest.next();
        Some(match name.as_str() {
            "L" | "Letter" | "Alphabetic" => vec![('a', 'z'), ('A', 'Z')],
            "Ll" | "Lowercase" => vec![('a', 'z')],
            "Lu" | "Uppercase" => vec![('A', 'Z')],
            "N" | "Nd" => vec![('0', '9')],
            _ => return None,
        })
    }

    fn class(&mut self) -> Option<Node> {
        let negated = self.rest.next_if_eq(&'^').is_some();
        let mut ranges = Vec::new();
        loop {
            let first = match self.rest.next()? {
                // The first character stands for itself, whatever it is.
                ']' if !ranges.is_empty() => break,
                '\\' => self.escape()?,
                other => vec![(other, other)],
            };
            match first.as_slice() {
                [(low, high)] if low == high && self.is_range() => ranges.push((*low, self.range_end()?)),
                _ => ranges.extend(first),
            }
        }
        let characters = readable(&ranges, negated);
        (!characters.is_empty()).then_some(Node::Class(characters))
    }

    /// Is there a hyphen, and something behind it that ends a range?
    fn is_range(&self) -> bool {
        let mut ahead = self.rest.clone();
        ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']')
    }

    fn range_end(&mut self) -> Option<char> {
        self.rest.next_if_eq(&'-')?;
        match self.rest.next()? {
            '\\' => self.escape()?.first().map(|(low, _)| *low),
            other => Some(other),
        }
    }
}

/// The characters of a class that are best to read: lower-case letters, else letters and digits, else
/// anything that can be printed.
fn readable(ranges: &[(char, char)], negated: bool) -> Vec<char> {
    let within = |c: &char| ranges.iter().any(|(low, high)| low <= c && c <= high) != negated;
    let tastes: [fn(&char) -> bool; 3] =
        [char::is_ascii_lowercase, char::is_ascii_alphanumeric, |c| matches!(c, ' '..='~')];
    for taste in tastes {
        let found: Vec<char> = (' '..='~').filter(|c| taste(c) && within(c)).collect();
        if !found.is_empty() {
            return found;
        }
    }
    ranges.iter().map(|(low, _)| *low).filter(|_| !negated).collect()
}
