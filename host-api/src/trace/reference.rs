//! References: the names of objects and calls that guests hand around.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{CallId, Json, TraceError};
use crate::{Name, Scope, sanitize_line};

/// Every valid reference is shorter: two names, an object name, a digest and what is between them.
const LENGTH_MAX: usize = 512;

/// Longest object name, in bytes.
const OBJECT_NAME_MAX: usize = 128;

/// What is shown of a text that was refused, in characters.
const SHOWN_MAX: usize = 80;

/// The name of an object, under which its versions are published: 1 to 128 ASCII letters, digits and
/// `.` `_` `-`, the first a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName(Arc<str>);

impl ObjectName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectName {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let begins_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if begins_well && text.len() <= OBJECT_NAME_MAX && text.bytes().all(allowed) {
            Ok(ObjectName(text.into()))
        } else {
            Err(TraceError::Invalid(format!(
                "`{}` is no object name: it must have 1 to {OBJECT_NAME_MAX} ASCII letters, digits or `.` `_` `-`, \
                 and begin with a letter or digit",
                shown(text)
            )))
        }
    }
}

/// The identity of an object's content: the SHA-256 of its canonical JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// The digest of a value.
    pub fn of(value: &Json) -> Self {
        ContentDigest(Sha256::digest(value.as_str()).into())
    }

    fn parse(text: &str) -> Option<Self> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let mut digits = text.bytes();
        let mut digest = [0; 32];
        for byte in &mut digest {
            *byte = digit(digits.next()?)? << 4 | digit(digits.next()?)?;
        }
        digits.next().is_none().then_some(ContentDigest(digest))
    }
}

/// 64 lower-case hexadecimal digits.
impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a reference points at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One version of an object.
    Object {
        /// The object.
        name: ObjectName,
        /// The version, by its content.
        digest: ContentDigest,
    },
    /// A call.
    Call(CallId),
}

/// A reference: `holm:///USER/PROJECT/object/NAME:DIGEST` or `holm:///USER/PROJECT/call/ID`.
///
/// There is exactly one text for each reference: what parses is what it displays, byte by byte, so
/// nothing has to be normalised before two of them are compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    user: Name,
    project: Arc<str>,
    target: Target,
}

impl Reference {
    /// The reference of a value that is published under this name, in this scope.
    pub fn object(scope: &Scope, name: ObjectName, value: &Json) -> Self {
        Reference::new(scope, Target::Object { name, digest: ContentDigest::of(value) })
    }

    /// The reference of a call of the execution that has this scope.
    pub fn call(scope: &Scope, call: CallId) -> Self {
        Reference::new(scope, Target::Call(call))
    }

    fn new(scope: &Scope, target: Target) -> Self {
        Reference { user: scope.user.clone(), project: scope.project().into(), target }
    }

    /// The user who owns what it points at.
    pub fn user(&self) -> &Name {
        &self.user
    }

    /// The namespace of the user that it lies in: a session's name, or `default`.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// What it points at.
    pub fn target(&self) -> &Target {
        &self.target
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("holm:///")?.split('/');
        let (user, project, kind, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let user: Name = user.parse().ok()?;
        // A project is named like a session.
        let project: Name = project.parse().ok()?;
        let target = match kind {
            "object" => {
                let (name, digest) = rest.split_once(':')?;
                Target::Object { name: name.parse().ok()?, digest: ContentDigest::parse(digest)? }
            }
            "call" => {
                let id = Uuid::try_parse(rest).ok()?;
                // A UUID has several spellings.
                (id.to_string() == rest).then_some(Target::Call(CallId(id)))?
            }
            _ => return None,
        };
        parts.next().is_none().then(|| Reference { user, project: project.as_str().into(), target })
    }
}

impl FromStr for Reference {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        Some(text).filter(|text| text.len() <= LENGTH_MAX).and_then(Reference::parse).ok_or_else(|| {
            TraceError::Invalid(format!(
                "`{}` is no reference: it must read `holm:///USER/PROJECT/object/NAME:DIGEST` or \
                 `holm:///USER/PROJECT/call/ID`",
                shown(text)
            ))
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "holm:///{}/{}/", self.user, self.project)?;
        match &self.target {
            Target::Object { name, digest } => write!(f, "object/{}:{digest}", name.as_str()),
            Target::Call(id) => write!(f, "call/{id}"),
        }
    }
}

/// The beginning of a refused text, safe to print.
fn shown(text: &str) -> String {
    let beginning = text.char_indices().nth(SHOWN_MAX).and_then(|(end, _)| text.get(..end));
    match beginning {
        Some(beginning) => format!("{}…", sanitize_line(beginning)),
        None => sanitize_line(text).into_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    const ID: &str = "019a0000-0000-7000-8000-000000000001";

    #[test]
    fn the_digest_is_the_sha256_of_canonical_json() {
        assert_eq!(ContentDigest::of(&Json::from_text(" { } ")).to_string(), DIGEST);
        let (one, other) = (Json::from_text(r#"{"a":1,"b":2}"#), Json::from_text(r#"{"b": 2, "a": 1}"#));
        assert_eq!(ContentDigest::of(&one), ContentDigest::of(&other));
    }

    #[test]
    fn there_is_one_spelling() {
        let good = [
            format!("holm:///alice/default/object/data.set_1-x:{DIGEST}"),
            format!("holm:///a@b.example/auth0|7/object/0:{DIGEST}"),
            format!("holm:///alice/default/call/{ID}"),
        ];
        for text in &good {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), *text);
        }
        let bad = [
            String::new(),
            "holm:///".into(),
            "holm:///alice/default/call/".into(),
            format!("holm:///alice/default/call/{}", ID.to_uppercase().replace('0', "A")),
            format!("holm:///alice/default/call/{}", ID.replace('-', "")),
            format!("holm:///alice/default/call/{{{ID}}}"),
            format!("holm:///alice/default/call/urn:uuid:{ID}"),
            format!("holm:///alice/default/call/{ID}/"),
            format!("holm:///alice/default/call/{ID}?x"),
            format!("holm:///alice/default/calls/{ID}"),
            format!("holm:///alice//call/{ID}"),
            format!("holm:////default/call/{ID}"),
            format!("holm://alice/default/call/{ID}"),
            format!("HOLM:///alice/default/call/{ID}"),
            format!(" holm:///alice/default/call/{ID}"),
            format!("holm:///alice/../call/{ID}"),
            format!("holm:///alice/./call/{ID}"),
            format!("holm:///alice%2f/default/call/{ID}"),
            format!("holm:///аlice/default/call/{ID}"),
            format!("holm:///alice\\default/call/{ID}"),
            format!("holm:///alice/default/object/../bob/default/object/x:{DIGEST}"),
            format!("holm:///alice/default/object/..:{DIGEST}"),
            format!("holm:///alice/default/object/a%2e:{DIGEST}"),
            format!("holm:///alice/default/object/:{DIGEST}"),
            format!("holm:///alice/default/object/{}:{DIGEST}", "x".repeat(129)),
            format!("holm:///alice/default/object/a:{}", DIGEST.to_uppercase()),
            format!("holm:///alice/default/object/a:{}", DIGEST.get(1..).unwrap()),
            format!("holm:///alice/default/object/a:{DIGEST}0"),
            format!("holm:///alice/default/object/a:b:{DIGEST}"),
            format!("holm:///alice/default/object/a:{DIGEST}\0"),
            format!("holm:///alice/default/object/a:{DIGEST}\u{200b}"),
        ];
        for text in &bad {
            let refused = text.parse::<Reference>().unwrap_err().to_string();
            assert!(refused.contains("is no reference"), "{text:?}");
            assert_eq!(sanitize_line(&refused), refused);
        }
    }

    fn reference() -> impl Strategy<Value = String> {
        let name = "[A-Za-z0-9][A-Za-z0-9._@+|-]{0,30}";
        let object = "object/[A-Za-z0-9][A-Za-z0-9._-]{0,127}:[0-9a-f]{64}";
        let call = any::<u128>().prop_map(|id| format!("call/{}", Uuid::from_u128(id)));
        (name, name, prop_oneof![object, call])
            .prop_map(|(user, project, rest)| format!("holm:///{user}/{project}/{rest}"))
    }

    proptest! {
        #[test]
        fn parsing_what_is_displayed_gives_the_same(text in reference()) {
            let parsed: Reference = text.parse().unwrap();
            prop_assert_eq!(parsed.to_string(), text);
            prop_assert_eq!(parsed.to_string().parse::<Reference>().unwrap(), parsed);
        }

        #[test]
        fn whatever_parses_is_what_it_displays(text in reference(), at in 0_usize..200, c in any::<char>()) {
            let mut text: Vec<char> = text.chars().collect();
            if let Some(changed) = text.get_mut(at) {
                *changed = c;
            }
            let text = String::from_iter(text);
            if let Ok(parsed) = text.parse::<Reference>() {
                prop_assert_eq!(parsed.to_string(), text);
            }
        }
    }
}
