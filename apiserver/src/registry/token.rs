//! Continue tokens: where a page ended and at which revision. Opaque to clients, versioned, and tied to what was listed.

use super::error::{ApiError, ApiResult};
use crate::resources::Resource;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The format's number: the first part of a token.
const FORMAT: &str = "1";

/// Where a list goes on.
#[derive(Debug, PartialEq, Eq)]
pub struct Token {
    /// The revision all pages show; `None`: the newest, whatever the pages before showed.
    pub revision: Option<u64>,
    /// The last key of the page before.
    pub after_key: String,
}

impl Token {
    /// What a token is tied to: a list of something else is not continued with it.
    pub fn scope(resource: &Resource, namespace: &str, labels: &str, fields: &str) -> u32 {
        let what = [resource.group.as_str(), resource.resource.as_str(), namespace, labels, fields].join("\n");
        crc32fast::hash(what.as_bytes())
    }

    /// The token as clients carry it.
    pub fn write(&self, scope: u32) -> String {
        let revision = self.revision.map(|r| r.to_string()).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(format!("{FORMAT}\n{scope}\n{revision}\n{}", self.after_key))
    }

    /// Reads a token that a client sends back.
    pub fn read(text: &str, scope: u32) -> ApiResult<Self> {
        Self::parse(text, scope).ok_or_else(|| {
            ApiError::bad_request("continue key is not valid: it must be one this server gave out, for this very list")
        })
    }

    fn parse(text: &str, scope: u32) -> Option<Self> {
        let plain = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let mut parts = plain.splitn(4, '\n');
        let (format, for_scope, revision, after_key) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if format != FORMAT || for_scope.parse::<u32>().ok()? != scope {
            return None;
        }
        let revision = if revision.is_empty() { None } else { Some(revision.parse().ok()?) };
        Some(Self { revision, after_key: after_key.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_says_what_was_written_and_only_for_its_list(revision: Option<u64>, after_key in ".*", scope: u32, other: u32) {
            let token = Token { revision, after_key };
            let text = token.write(scope);
            if scope != other {
                prop_assert!(Token::read(&text, other).is_err());
            }
            prop_assert_eq!(Token::read(&text, scope).expect("just written"), token);
        }

        #[test]
        fn nothing_a_client_sends_panics(text in ".*") {
            let _ = Token::read(&text, 0);
        }
    }
}
