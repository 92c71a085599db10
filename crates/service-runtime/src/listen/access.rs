//! Who may do what: bearer tokens from a file, each with a role.
//!
//! The file holds one token a line, `name role token`, behind which may stand what it is limited to ([`Scope`]); `#` begins
//! a comment. Roles are `metrics`, `read`, `write` and `operate`, each of which includes the ones before. The file is read again when it changes; a file that makes no sense is
//! reported and the tokens before it stay. Without a file everybody may do everything, and [`Gate`](crate::Gate) serves
//! this machine only.
//!
//! Tokens are kept and compared as SHA-256 digests, all of them and in constant time; none is ever printed.
//!
//! [`Access::check`] is the one decision; ops HTTP asks it in `guard`, gRPC in a layer of its own.

pub(crate) mod guard;
mod proxies;
mod scope;
pub(crate) mod session;
mod tokens;

pub use proxies::{CallerAddress, caller_address};
pub use scope::Scope;

use crate::config::{AccessConfig, ConfigError, reload};
use crate::listen::reason::Reason;
use arc_swap::ArcSwap;
use axum::http::{HeaderMap, HeaderValue, header};
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokens::{TokenDigest, Tokens};

const TOKENS_KEY: &str = "service.access.tokens_file";

/// What a caller may do. Each role includes the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Scrape metrics, and nothing else: they name no user.
    Metrics,
    /// Look at everything.
    Read,
    /// Like and unlike, too.
    Write,
    /// Repair, replay and discard, too.
    Operate,
}

impl Role {
    /// As the file of tokens calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Read => "read",
            Self::Write => "write",
            Self::Operate => "operate",
        }
    }
}

/// Who calls; a request's extension, for audits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's name; `anyone` where none is needed.
    pub name: Arc<str>,
    /// What it may do.
    pub role: Role,
    /// For whom, and about what.
    pub scope: Arc<Scope>,
    /// Which token it was; none where none is needed.
    token: Option<TokenDigest>,
}

/// Name of callers where none needs a token.
const ANYONE: &str = "anyone";

impl Caller {
    /// Who calls where nobody needs a token.
    fn anyone() -> Self {
        Self { name: ANYONE.into(), role: Role::Operate, scope: Arc::default(), token: None }
    }

    /// The token's name, where tokens are needed.
    pub fn token_name(&self) -> Option<&str> {
        self.owner().map(|name| &**name)
    }

    /// The same, as whose its connections are.
    pub(crate) fn owner(&self) -> Option<&Arc<str>> {
        Some(&self.name).filter(|name| ***name != *ANYONE)
    }
}

/// Why a call is refused. Says nothing about any token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No `authorization`.
    #[error("a token is needed: authorization: Bearer TOKEN")]
    Missing,
    /// Not exactly one header of this form.
    #[error("expected one header of the form authorization: Bearer TOKEN")]
    Malformed,
    /// Nobody's token.
    #[error("the token is not known")]
    Unknown,
    /// The token's role is too low.
    #[error("this needs role {}, the token has {}", needed.name(), has.name())]
    Role {
        /// Lowest role that may.
        needed: Role,
        /// The token's.
        has: Role,
    },
    /// The call says things about users or types that the token is not for.
    #[error("the token is limited to some users or types, and this call knows no limits")]
    Scope,
}

impl Denied {
    /// Whether another token would be let in; otherwise the caller is not known at all.
    pub const fn is_known(self) -> bool {
        matches!(self, Self::Role { .. } | Self::Scope)
    }

    /// For the caller's program.
    pub const fn because(self) -> Reason {
        match self {
            Self::Missing => Reason::TokenMissing,
            Self::Malformed => Reason::TokenMalformed,
            Self::Unknown => Reason::TokenUnknown,
            Self::Role { .. } => Reason::RoleTooLow,
            Self::Scope => Reason::OutOfScope,
        }
    }

    /// A word for metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Role { .. } => "role",
            Self::Scope => "scope",
        }
    }
}

/// The tokens that are valid now. Clones share them; the default is that nobody needs one.
#[derive(Clone, Default)]
pub struct Access(Option<Arc<File>>);

struct File {
    path: PathBuf,
    tokens: ArcSwap<Tokens>,
    /// How often they were read again.
    readings: AtomicU64,
    seen: reload::Fingerprint,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Access(anyone)"),
            Some(file) => write!(f, "Access({} tokens)", file.tokens.load().len()),
        }
    }
}

impl Access {
    /// Reads the tokens, if a file is configured.
    pub fn open(config: &AccessConfig) -> Result<Self, ConfigError> {
        let Some(path) = &config.tokens_file else { return Ok(Self(None)) };
        let seen = reload::Fingerprint::of(std::slice::from_ref(path));
        let tokens = ArcSwap::from_pointee(read(path)?);
        Ok(Self(Some(Arc::new(File { path: path.clone(), tokens, readings: AtomicU64::new(0), seen }))))
    }

    /// Whether anybody needs a token.
    pub fn needs_token(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the caller may do what needs this role, and knows no limits of tokens unless it is `scoped`: then whoever
    /// does it looks at the caller's [`Scope`].
    pub fn check(&self, headers: &HeaderMap, needed: Role, scoped: bool) -> Result<Caller, Denied> {
        if self.0.is_none() {
            return Ok(Caller::anyone());
        }
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next().ok_or(Denied::Missing)?;
        if values.next().is_some() {
            return Err(Denied::Malformed);
        }
        self.check_token(bearer(value)?, needed, scoped)
    }

    /// The same for a token that came by itself.
    pub(crate) fn check_token(&self, token: &[u8], needed: Role, scoped: bool) -> Result<Caller, Denied> {
        let Some(file) = &self.0 else { return Ok(Caller::anyone()) };
        let caller = file.tokens.load().find(token).ok_or(Denied::Unknown)?;
        if caller.role < needed {
            return Err(Denied::Role { needed, has: caller.role });
        }
        // What is measured names no user.
        if needed > Role::Metrics && !scoped && caller.scope.is_limited() {
            return Err(Denied::Scope);
        }
        Ok(caller)
    }

    /// What is let in for long, to be asked again and again.
    pub fn admission(&self, caller: Option<Caller>) -> Admission {
        Admission { access: self.clone(), caller, seen: None }
    }

    /// Reads the file again whenever it changes; never returns if there is one.
    pub(crate) async fn watch(self, refusal: reload::Refusal) {
        let Some(file) = self.0 else { return };
        reload::watch(vec![file.path.clone()], file.seen, refusal, || {
            let tokens = read(&file.path)?;
            tracing::info!("{TOKENS_KEY}: read again, {} tokens", tokens.len());
            file.tokens.store(Arc::new(tokens));
            file.readings.fetch_add(1, Ordering::Release);
            Ok(())
        })
        .await;
    }
}

/// A caller that was let in for long: what its token may do can change, or the token go, meanwhile.
#[derive(Debug, Clone)]
pub struct Admission {
    access: Access,
    caller: Option<Caller>,
    /// Reading of the file with which it was found valid last.
    seen: Option<u64>,
}

impl Admission {
    /// Whether its token is in the file as it was.
    pub fn holds(&mut self) -> bool {
        let (Some(file), Some(caller)) = (&self.access.0, &self.caller) else { return true };
        let readings = file.readings.load(Ordering::Acquire);
        if self.seen == Some(readings) {
            return true;
        }
        let known = file.tokens.load().has(caller);
        self.seen = known.then_some(readings);
        known
    }
}

fn read(path: &Path) -> Result<Tokens, ConfigError> {
    let fail = |reason: &dyn Display| ConfigError::key(TOKENS_KEY, format!("{}: {reason}", path.display()));
    let bytes = reload::read_bounded(path).map_err(|error| fail(&error))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| fail(&"not text in UTF-8"))?;
    Tokens::parse(text).map_err(|reason| fail(&reason))
}

/// The token of `Bearer TOKEN`; the scheme in any case.
fn bearer(value: &HeaderValue) -> Result<&[u8], Denied> {
    let (scheme, token) = value.as_bytes().split_at_checked(7).ok_or(Denied::Malformed)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ")
        || token.is_empty()
        || !token.iter().all(|byte| tokens::is_allowed(*byte))
    {
        return Err(Denied::Malformed);
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(text: &str) -> Access {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Access::open(&AccessConfig { tokens_file: Some(file.path().to_owned()), insecure: false }).unwrap()
    }

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn roles_include_the_ones_before() {
        let access = access(
            "scrape metrics scraping-scraping\nlook read looking-looking-1\nlike write liking-liking-lik\nrun operate running-running-1\n",
        );
        for (token, highest) in [
            ("scraping-scraping", Role::Metrics),
            ("looking-looking-1", Role::Read),
            ("liking-liking-lik", Role::Write),
            ("running-running-1", Role::Operate),
        ] {
            for needed in [Role::Metrics, Role::Read, Role::Write, Role::Operate] {
                let found = access.check(&headers(&[&format!("Bearer {token}")]), needed, false);
                if needed <= highest {
                    assert_eq!(found.unwrap().role, highest);
                } else {
                    assert_eq!(found.unwrap_err(), Denied::Role { needed, has: highest });
                }
            }
        }
    }

    #[tokio::test]
    async fn who_was_let_in_for_long_is_asked_again_when_the_file_has_changed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        let (one, other) = ("one read looking-looking-1", "other read looking-looking-2");
        write(&format!("{one}\n{other}\n"));
        let config = AccessConfig { tokens_file: Some(file.path().to_owned()), insecure: false };
        let access = Access::open(&config).unwrap();
        let admitted = |token: &str| {
            let caller = access.check(&headers(&[&format!("Bearer {token}")]), Role::Read, false).unwrap();
            access.admission(Some(caller))
        };
        let mut holders = [admitted("looking-looking-1"), admitted("looking-looking-2")];
        let read_again = |text: &str| {
            let inner = access.0.as_ref().unwrap();
            inner.tokens.store(Arc::new(Tokens::parse(text).unwrap()));
            inner.readings.fetch_add(1, Ordering::Release);
        };
        for (text, expected) in [
            (format!("{one}\n{other}\n"), [true, true]),
            (format!("{other}\n"), [false, true]),
            // The same name with another secret is another token.
            ("one read looking-looking-3\nother write looking-looking-2\n".to_owned(), [false, false]),
        ] {
            read_again(&text);
            assert_eq!(holders.each_mut().map(Admission::holds), expected, "{text}");
        }
        assert!(Access::default().admission(None).holds());
    }

    #[test]
    fn a_limited_token_is_let_in_only_where_its_limits_are_known() {
        let access = access("some write liking-liking-lik users=1-9\nall write liking-liking-all\n");
        let asks = |token: &str, needed, scoped| {
            access
                .check(&headers(&[&format!("Bearer {token}")]), needed, scoped)
                .map(|caller| caller.scope.has_user(10))
        };
        assert_eq!(asks("liking-liking-lik", Role::Write, true), Ok(false));
        assert_eq!(asks("liking-liking-lik", Role::Read, false), Err(Denied::Scope));
        assert_eq!(asks("liking-liking-lik", Role::Metrics, false), Ok(false));
        assert_eq!(asks("liking-liking-all", Role::Read, false), Ok(true));
    }

    #[test]
    fn what_is_not_one_bearer_token_is_refused() {
        let access = access("look read looking-looking-1\n");
        let good = "Bearer looking-looking-1";
        assert_eq!(&*access.check(&headers(&["bEaReR looking-looking-1"]), Role::Read, false).unwrap().name, "look");
        for (values, reason) in [
            (&[][..], Denied::Missing),
            (&["looking-looking-1"], Denied::Malformed),
            (&["Basic looking-looking-1"], Denied::Malformed),
            (&["Bearer"], Denied::Malformed),
            (&["Bearer "], Denied::Malformed),
            (&["Bearer  looking-looking-1"], Denied::Malformed),
            (&["Bearer looking-looking-1 "], Denied::Malformed),
            (&["Bearer looking-looking-1, Bearer x"], Denied::Malformed),
            (&[good, good], Denied::Malformed),
            (&["Bearer looking-looking-2"], Denied::Unknown),
            (&["Bearer looking-looking-"], Denied::Unknown),
            (&["Bearer looking-looking-11"], Denied::Unknown),
        ] {
            assert_eq!(access.check(&headers(values), Role::Read, false).unwrap_err(), reason, "{values:?}");
        }
    }

    #[test]
    fn without_a_file_everybody_may_do_everything() {
        let access = Access::open(&AccessConfig::default()).unwrap();
        assert!(!access.needs_token());
        assert_eq!(&*access.check(&HeaderMap::new(), Role::Operate, false).unwrap().name, "anyone");
    }
}
