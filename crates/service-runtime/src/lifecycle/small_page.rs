//! `GET /` of a process that has no dashboard: how it is, and a few figures of its own.
//!
//! Its files hold no data: it asks `/health`, which is open, and `/metrics`, for which a browser signs in once.

use crate::listen::assets::{self, Asset, CSS, HTML, JAVASCRIPT};
use axum::Router;

const FILES: &[Asset] = &[
    ("/", HTML, include_str!("small_page/index.html")),
    ("/assets/page.css", CSS, include_str!("small_page/page.css")),
    ("/assets/page.js", JAVASCRIPT, include_str!("small_page/page.js")),
    ("/assets/words.js", JAVASCRIPT, include_str!("small_page/words.js")),
];

/// The page and its files.
pub fn routes() -> Router {
    assets::routes(FILES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_inline_absolute_or_loaded_from_elsewhere() {
        for (path, kind, text) in FILES {
            for never in
                ["<script>", "<style", " style=", " onclick", "http:", "https:", "innerHTML", "eval(", "@import"]
            {
                assert!(!text.contains(never), "{path}: {never}");
            }
            // Below a proxy's prefix an absolute path leads somewhere else.
            for never in ["=\"/", "(\"/", "'/"] {
                assert!(!text.contains(never), "{path}: {never}");
            }
            if *kind != HTML {
                assert!(path.starts_with("/assets/"), "{path} is not open");
            }
        }
    }

    #[test]
    fn every_word_has_its_chinese() {
        let (page, script, words) = (FILES[0].2, FILES[2].2, FILES[3].2);
        let marked = page.split("data-t>").skip(1).filter_map(|rest| rest.split('<').next());
        // Not the end of another name, such as `get`.
        let own = |(at, _): &(usize, &str)| !script[..*at].ends_with(char::is_alphanumeric);
        let calls = script.match_indices("t(\"").filter(own);
        let called = calls.filter_map(|(at, call)| script[at + call.len()..].split('"').next());
        let mut seen = 0;
        for word in marked.chain(called) {
            assert!(words.contains(&format!("\"{word}\": \"")), "no Chinese for {word:?}");
            seen += 1;
        }
        assert!(seen > 20, "only {seen} words were found");
    }
}
