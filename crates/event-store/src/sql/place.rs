//! Where the database is: what its url says, read here and not by the drivers, which pass over what they do not know.

use domain::StoreUrl;
use std::path::Path;

const SCHEMES: [&str; 2] = ["mysql", "mariadb"];

/// Names of the same option.
#[cfg(feature = "mysql")]
pub(crate) const SSL_MODE: &[&str] = &["ssl-mode", "sslmode"];
pub(crate) const SSL_CA: &[&str] = &["ssl-ca", "sslca"];
pub(crate) const SSL_CERT: &[&str] = &["ssl-cert", "sslcert"];
pub(crate) const SSL_KEY: &[&str] = &["ssl-key", "sslkey"];
pub(crate) const TIME_ZONE: &[&str] = &["time-zone", "timezone"];

const OPTIONS: [&str; 12] = [
    "ssl-mode",
    "sslmode",
    "ssl-ca",
    "sslca",
    "ssl-cert",
    "sslcert",
    "ssl-key",
    "sslkey",
    "charset",
    "collation",
    "time-zone",
    "timezone",
];

const ELSEWHERE: [(&str, &str); 11] = [
    ("parseTime", "times are always read as times, leave it out"),
    ("loc", "times are always UTC, leave it out"),
    ("tls", "say ssl-mode=REQUIRED, VERIFY_CA or VERIFY_IDENTITY"),
    ("useSSL", "say ssl-mode=REQUIRED, VERIFY_CA or VERIFY_IDENTITY"),
    ("serverTimezone", "connections always use UTC, leave it out"),
    ("timeout", "see database.connect_timeout"),
    ("connect_timeout", "see database.connect_timeout"),
    ("readTimeout", "see database.query_timeout"),
    ("writeTimeout", "see database.query_timeout"),
    ("socket", "the database is reached by TCP alone"),
    ("statement-cache-capacity", "no statement is prepared"),
];

/// Which database, and where.
#[derive(Debug)]
pub(crate) enum Place {
    /// Its url has a database's name as its path.
    MySql(StoreUrl),
    /// A file, or memory.
    Sqlite,
}

impl Place {
    /// Errors never repeat the url.
    pub(crate) fn read(url: &str) -> Result<Self, String> {
        if let Some(file) = url.trim_start().strip_prefix("sqlite:") {
            return sqlite(file).map(|()| Self::Sqlite);
        }
        let url = StoreUrl::parse(url, &SCHEMES)
            .map_err(|error| error.replace("mysql:// or mariadb://", "mysql://, mariadb:// or sqlite:"))?;
        url.allow_options(&OPTIONS, &ELSEWHERE)?;
        match url.path.as_deref() {
            None | Some("") => return Err("names no database: mysql://host/NAME".to_owned()),
            Some(name) if name.contains('/') || name.chars().count() > 64 => {
                return Err("has a path that is no name of a database".to_owned());
            }
            Some(_) => {}
        }
        let mode = url.option(&["ssl-mode", "sslmode"]).map(str::to_ascii_uppercase);
        let modes = ["DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"];
        if mode.as_ref().is_some_and(|mode| !modes.contains(&mode.as_str())) {
            return Err(format!("option ssl-mode: must be one of {}", modes.join(", ")));
        }
        let verifies = mode.is_some_and(|mode| mode.starts_with("VERIFY"));
        for names in [SSL_CA, SSL_CERT, SSL_KEY] {
            let Some(file) = url.option(names) else { continue };
            std::fs::File::open(Path::new(file)).map_err(|error| format!("option {}: {error}", names[0]))?;
        }
        if url.option(SSL_CA).is_some() && !verifies {
            return Err("option ssl-ca: is of use only with ssl-mode=VERIFY_CA or VERIFY_IDENTITY".to_owned());
        }
        if url.option(SSL_CERT).is_some() != url.option(SSL_KEY).is_some() {
            return Err("options ssl-cert and ssl-key: are of use only together".to_owned());
        }
        if url.option(&["charset"]).is_some_and(|set| !set.eq_ignore_ascii_case("utf8mb4")) {
            return Err("option charset: connections always use utf8mb4, leave it out".to_owned());
        }
        let word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if url.option(&["collation"]).is_some_and(|collation| !word(collation)) {
            return Err("option collation: is no name of a collation".to_owned());
        }
        if url.option(TIME_ZONE).is_some_and(|zone| !is_zone(zone)) {
            return Err("option time-zone: must be like +08:00, UTC or Europe/Berlin".to_owned());
        }
        Ok(Self::MySql(url))
    }

    /// What only those who write refuse: times are stored in UTC, and compared with the database's own clock.
    pub(crate) fn is_written_to(&self) -> Result<(), String> {
        let Self::MySql(url) = self else { return Ok(()) };
        match url.option(TIME_ZONE) {
            None | Some("+00:00" | "-00:00" | "UTC" | "utc") => Ok(()),
            Some(_) => Err("option time-zone: connections always use UTC, leave it out (times of an old database are \
                            read by import-legacy --timezone)"
                .to_owned()),
        }
    }
}

/// A path, `%3F` and the like decoded by the driver, and at most one option.
fn sqlite(file: &str) -> Result<(), String> {
    let file = file.trim_end();
    let file = file.strip_prefix("//").unwrap_or(file);
    let (path, query) = file.split_once('?').map_or((file, None), |(path, query)| (path, Some(query)));
    if path.is_empty() || path.ends_with('/') {
        return Err("names no file: sqlite:FILE".to_owned());
    }
    if path.chars().any(char::is_control) {
        return Err("holds a control character, such as the end of a line".to_owned());
    }
    match query {
        None | Some("" | "mode=rwc" | "mode=rw") => Ok(()),
        Some(_) => Err("has an option, and a file of SQLite has none here (in a name ? is %3F)".to_owned()),
    }
}

/// Also what a session is told may not be more than a name.
fn is_zone(zone: &str) -> bool {
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | ':' | '/' | '_');
    !zone.is_empty() && zone.len() <= 64 && zone.chars().all(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_databases_are_right_or_say_what_is_wrong() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let file = file.path().display();
        for url in [
            "mysql://root@127.0.0.1:3306/interaction",
            "mariadb://me:p@ss:word@[::1]/likes?charset=utf8mb4&collation=utf8mb4_bin&ssl-mode=required",
            &format!("mysql://h/x?ssl-mode=verify_ca&ssl-ca={file}&ssl-cert={file}&ssl-key={file}"),
            "mysql://h/x?time-zone=+00:00",
            "mysql://h/x?timezone=%2B00:00",
            "sqlite:a/b.db",
            "sqlite:///a/b.db?mode=rwc",
            "sqlite::memory:",
        ] {
            Place::read(url).and_then(|place| place.is_written_to()).unwrap_or_else(|error| panic!("{url}: {error}"));
        }
        for (url, said) in [
            ("postgres://u:sesame@h/x", "must begin with mysql://, mariadb:// or sqlite:"),
            ("u:sesame@tcp(h:3306)/x?parseTime=true", "must begin with"),
            ("mysql:u:sesame@h/x", "must begin with"),
            ("mysql://u:sesame@/x", "names no host"),
            ("mysql:///x", "names no host"),
            ("mysql://u:sesame@h", "names no database"),
            ("mysql://u:sesame@h/", "names no database"),
            ("mysql://u:sesame@h/a/b", "no name of a database"),
            ("mysql://u:sesame@h:33060000/x", "port: must be"),
            ("mysql://u:sesame@h/x?parseTime=true", "option parseTime is not read from here"),
            ("mysql://u:sesame@h/x?usessl=false", "ssl-mode=REQUIRED"),
            ("mysql://u:sesame@h/x?pool=1", "unknown option pool"),
            ("mysql://u:sesame@h/x?ssl-mode=maybe", "option ssl-mode: must be one of DISABLED"),
            ("mysql://u:sesame@h/x?ssl-mode=VERIFY_CA&ssl-ca=/nowhere", "option ssl-ca: No such file"),
            (&format!("mysql://u:sesame@h/x?ssl-mode=REQUIRED&ssl-ca={file}"), "of use only with ssl-mode=VERIFY_CA"),
            (&format!("mysql://u:sesame@h/x?ssl-cert={file}"), "only together"),
            ("mysql://u:sesame@h/x?charset=latin1", "always use utf8mb4"),
            ("mysql://u:sesame@h/x?collation=a'b", "option collation"),
            ("mysql://u:sesame@h/x?time-zone=+08:00", "import-legacy --timezone"),
            ("mysql://u:sesame@h/x?time-zone='", "must be like +08:00"),
            ("sqlite:", "names no file"),
            ("sqlite://", "names no file"),
            ("sqlite:dir/", "names no file"),
            ("sqlite:x.db?mode=ro", "has an option"),
        ] {
            let error = Place::read(url).and_then(|place| place.is_written_to()).expect_err(url);
            assert!(error.contains(said), "{url}: {error}");
            assert!(!error.contains("sesame"), "{error}");
        }
    }
}
