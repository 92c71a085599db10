//! Names that keep tests apart on shared servers.

/// `<prefix>_<12 hexadecimal digits>`: fits key prefixes, queue names and schema names.
pub fn unique_name(prefix: &str) -> String {
    // The end of a version 7 UUID is random, its beginning is the time.
    let id = uuid::Uuid::now_v7().simple().to_string();
    format!("{prefix}_{}", &id[20..])
}

/// The same server address with another database name: `mysql://root@host:1/a` and `b` give `mysql://root@host:1/b`.
pub fn with_database(url: &str, database: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let authority_end = base.find("://").map_or(0, |at| at + 3);
    let base = base[authority_end..].find('/').map_or(base, |at| &base[..authority_end + at]);
    match query {
        Some(query) => format!("{base}/{database}?{query}"),
        None => format!("{base}/{database}"),
    }
}

/// Parts of `scheme://user:password@host:port/path`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UrlParts<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
    pub(crate) host: &'a str,
    pub(crate) port: Option<u16>,
    /// What the path names: a database, a virtual host.
    pub(crate) path: Option<&'a str>,
}

impl<'a> UrlParts<'a> {
    pub(crate) fn parse(url: &'a str) -> Option<Self> {
        let rest = url.split_once("://")?.1;
        let (rest, _query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (address, None),
        };
        Some(Self { user, password, host, port, path: Some(path).filter(|path| !path.is_empty()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        assert_ne!(unique_name("a"), unique_name("a"));
    }

    #[test]
    fn the_database_of_a_url_is_replaced() {
        assert_eq!(with_database("mysql://root@h:1/", "b"), "mysql://root@h:1/b");
        assert_eq!(with_database("mysql://root@h:1", "b"), "mysql://root@h:1/b");
        assert_eq!(with_database("mysql://root:p@h:1/a?x=1", "b"), "mysql://root:p@h:1/b?x=1");
    }

    #[test]
    fn urls_come_apart() {
        let parts = UrlParts::parse("mysql://root:pw@127.0.0.1:3306/a").unwrap();
        let (user, password, host) = ("root", "pw", "127.0.0.1");
        assert_eq!(parts, UrlParts { user, password, host, port: Some(3306), path: Some("a") });
        let parts = UrlParts::parse("redis://localhost/?x=1").unwrap();
        assert_eq!((parts.host, parts.port, parts.path), ("localhost", None, None));
        assert!(UrlParts::parse("nonsense").is_none());
    }
}
