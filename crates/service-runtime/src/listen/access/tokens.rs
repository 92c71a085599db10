//! The file of tokens. What is wrong with it is said by line number: any word of a bad line may be the secret.

use super::{Caller, Role, Scope};
use ring::digest::{SHA256, digest};
use std::fmt;
use subtle::ConstantTimeEq;

/// Shorter ones can be guessed.
const MIN_LEN: usize = 16;
const MAX_LEN: usize = 512;
const MAX_NAME_LEN: usize = 64;
/// A call is compared with every one of them.
const MAX_TOKENS: usize = 1_000;

/// SHA-256 of a token; never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TokenDigest([u8; 32]);

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest")
    }
}

struct Token {
    digest: TokenDigest,
    caller: Caller,
}

/// The tokens of one file, as digests.
pub(super) struct Tokens(Vec<Token>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

impl Tokens {
    /// The error names the line, and nothing that stands there.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens: Vec<Token> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.is_empty() {
                continue;
            }
            let token = Token::parse(&words).map_err(|reason| format!("line {}: {reason}", number + 1))?;
            if tokens.iter().any(|other| other.digest == token.digest) {
                return Err(format!("line {}: the token of an earlier line", number + 1));
            }
            if tokens.len() == MAX_TOKENS {
                return Err(format!("more than {MAX_TOKENS} tokens"));
            }
            tokens.push(token);
        }
        // More likely a file that is being written than the wish that nobody may do anything.
        if tokens.is_empty() { Err("holds no token".to_owned()) } else { Ok(Self(tokens)) }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether one of them is this caller's, with the same name, role and limits.
    pub(super) fn has(&self, caller: &Caller) -> bool {
        self.0.iter().any(|token| token.caller == *caller)
    }

    /// Whose token it is. Looks at all of them, so that the time says nothing.
    pub(super) fn find(&self, token: &[u8]) -> Option<Caller> {
        let digest = sha256(token);
        let mut found = None;
        for token in &self.0 {
            if bool::from(token.digest.0.ct_eq(&digest.0)) {
                found = Some(&token.caller);
            }
        }
        found.cloned()
    }
}

impl Token {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let [name, role, token, limits @ ..] = words else {
            return Err(format!("expected `name role token`, found {} words", words.len()));
        };
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
        if name.len() > MAX_NAME_LEN || !name.chars().all(named) {
            return Err(format!("a name has 1 to {MAX_NAME_LEN} letters, digits and .-_@"));
        }
        let role = match *role {
            "metrics" => Role::Metrics,
            "read" => Role::Read,
            "write" => Role::Write,
            "operate" => Role::Operate,
            _ => return Err("the role is metrics, read, write or operate".to_owned()),
        };
        if !(MIN_LEN..=MAX_LEN).contains(&token.len()) || !token.bytes().all(is_allowed) {
            return Err(format!("a token has {MIN_LEN} to {MAX_LEN} letters, digits and -._~+/="));
        }
        let mut scope = Scope::default();
        limits.iter().try_for_each(|limit| scope.add(limit))?;
        if role == Role::Operate && scope.is_limited() {
            return Err("who operates cannot be limited".to_owned());
        }
        let digest = sha256(token.as_bytes());
        let caller = Caller { name: (*name).into(), role, scope: scope.into(), token: Some(digest) };
        Ok(Self { digest, caller })
    }
}

/// What a bearer token may consist of (RFC 6750).
pub(super) const fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
}

fn sha256(token: &[u8]) -> TokenDigest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token).as_ref());
    TokenDigest(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn limits_stand_behind_the_token() {
        let tokens = Tokens::parse("a write 0123456789abcdef users=1-5 types=video  # app\n").unwrap();
        let scope = tokens.find(b"0123456789abcdef").unwrap().scope;
        assert!(scope.has_user(5) && !scope.has_user(6) && scope.has_type("video") && !scope.has_type("comment"));
    }

    #[test]
    fn comments_and_blank_lines_are_nothing() {
        let tokens =
            Tokens::parse("# who\n\n  a read 0123456789abcdef  # old\r\nb operate fedcba9876543210\n").unwrap();
        assert_eq!(tokens.len(), 2);
        let found = tokens.find(b"fedcba9876543210").unwrap();
        assert_eq!((&*found.name, found.role, found.scope), ("b", Role::Operate, Arc::default()));
        assert_eq!(tokens.find(b"fedcba987654321"), None);
        assert_eq!(tokens.find(b""), None);
        assert_eq!(format!("{tokens:?}"), "Tokens(2)");
    }

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        let secret = "geheim-geheim-geheim";
        for (text, expected) in [
            (format!("a read {secret}\nb {secret}\n"), "line 2: expected `name role token`, found 2 words"),
            (format!("a {secret} read\n"), "line 1: the role is"),
            (format!("\n\na Read {secret}\n"), "line 3: the role is"),
            (format!("{secret}! read a\n"), "line 1: a name has"),
            ("a read geheim\n".to_owned(), "line 1: a token has"),
            (format!("a read {secret}\"\n"), "line 1: a token has"),
            (format!("a read {secret}\nb write {secret}\n"), "line 2: the token of an earlier line"),
            (format!("a read {secret} users=1\n"), "line 1: users are limited by FIRST-LAST"),
            (format!("a read {secret} {secret}\n"), "line 1: behind a token stand"),
            (format!("a operate {secret} types=video\n"), "line 1: who operates"),
            ("# nothing\n".to_owned(), "holds no token"),
        ] {
            let error = Tokens::parse(&text).unwrap_err();
            assert!(error.contains(expected), "{expected} is not in: {error}");
            assert!(!error.contains("geheim"), "{error}");
        }
        let many: String = (0..=MAX_TOKENS).map(|n| format!("a read 0123456789abcdef{n}\n")).collect();
        assert!(Tokens::parse(&many).unwrap_err().contains("more than"));
    }
}
