//! Keys: never shown, and zeroed when they go.

use std::fmt;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

/// A key of a provider. It shows as `[secret]`, and its memory is zeroed when the last holder drops it.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes a key. Spaces and line ends around it, as files and terminals leave them, are not part of it.
    pub fn new(key: impl Into<String>) -> Self {
        let key = Zeroizing::new(key.into());
        Secret(SecretString::from(key.trim()))
    }

    /// The key itself, to be sent to its provider and nowhere else.
    pub(super) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// There is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_show() {
        let key = Secret::new(" sk-1234567890\n");
        assert_eq!(key.expose(), "sk-1234567890");
        assert_eq!(format!("{key:?} {:?}", Some(&key)), "[secret] Some([secret])");
    }
}
