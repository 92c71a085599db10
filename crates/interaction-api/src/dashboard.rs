//! `GET /` of a server: the dashboard. Embedded files, no build step, nothing loaded from anywhere else.
//!
//! It shows `/health`, `/metrics`, `/overview`, `/history`, `/consistency/report`, `/events`, `/events/groups`, `/resource`
//! and `/explain`, and acts by `/events/replay`, `/events/discard` and `/consistency/check`. A browser signs in once, at
//! `/session`. Its own files hold no data, and the policy lets it run nothing but them. All addresses are relative: below a
//! proxy's prefix the page is the same.
//!
//! uPlot 1.6.32 (MIT licence) draws the charts: its files in `dashboard/uplot` are as published on npm, and go out with
//! their licence.

use axum::Router;
use domain::ResourceType;
use service_runtime::listen::assets::{self, Asset, CSS, HTML, JAVASCRIPT};
use std::sync::LazyLock;

/// Path, kind and content of the page and its files.
static FILES: LazyLock<[Asset; 18]> = LazyLock::new(|| {
    [
        ("/assets/types.js", JAVASCRIPT, types().leak()),
        ("/", HTML, include_str!("dashboard/index.html")),
        ("/assets/dashboard.css", CSS, include_str!("dashboard/dashboard.css")),
        ("/assets/main.js", JAVASCRIPT, include_str!("dashboard/main.js")),
        ("/assets/ask.js", JAVASCRIPT, include_str!("dashboard/ask.js")),
        ("/assets/place.js", JAVASCRIPT, include_str!("dashboard/place.js")),
        ("/assets/words.js", JAVASCRIPT, include_str!("dashboard/words.js")),
        ("/assets/chinese.js", JAVASCRIPT, include_str!("dashboard/chinese.js")),
        ("/assets/chinese_names.js", JAVASCRIPT, include_str!("dashboard/chinese_names.js")),
        ("/assets/show.js", JAVASCRIPT, include_str!("dashboard/show.js")),
        ("/assets/charts.js", JAVASCRIPT, include_str!("dashboard/charts.js")),
        ("/assets/now.js", JAVASCRIPT, include_str!("dashboard/now.js")),
        ("/assets/events.js", JAVASCRIPT, include_str!("dashboard/events.js")),
        ("/assets/operate.js", JAVASCRIPT, include_str!("dashboard/operate.js")),
        ("/assets/resource.js", JAVASCRIPT, include_str!("dashboard/resource.js")),
        ("/assets/report.js", JAVASCRIPT, include_str!("dashboard/report.js")),
        (
            "/assets/uplot.css",
            CSS,
            concat!(
                "/*\n",
                include_str!("dashboard/uplot/LICENSE"),
                "*/\n",
                include_str!("dashboard/uplot/uPlot.min.css")
            ),
        ),
        (
            "/assets/uplot.js",
            JAVASCRIPT,
            concat!(
                "/*\n",
                include_str!("dashboard/uplot/LICENSE"),
                "*/\n",
                include_str!("dashboard/uplot/uPlot.iife.min.js")
            ),
        ),
    ]
});

/// The types of what is liked, for the page's own files.
fn types() -> String {
    format!("export const TYPES = {:?};\n", ResourceType::NAMES)
}

/// The page and its files.
pub fn routes() -> Router {
    assets::routes(&*FILES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn own() -> impl Iterator<Item = Asset> {
        FILES.iter().copied().filter(|(path, ..)| !path.contains("uplot"))
    }

    fn file(name: &str) -> &'static str {
        FILES.iter().find(|(path, ..)| *path == name).unwrap().2
    }

    #[test]
    fn nothing_is_inline_and_nothing_is_loaded_from_elsewhere() {
        for never in ["<script>", "<style", " style=", " onclick", " onload", "http://localhost", "https://"] {
            assert!(!file("/").contains(never), "{never}");
        }
        for (path, kind, text) in FILES.iter().copied() {
            if kind != HTML {
                // uPlot says where it comes from, once.
                let text = text.replacen("/*! https://github.com/leeoniya/uPlot (v1.6.32) */", "", 1);
                for never in ["http:", "https:", "@import", "innerHTML", "outerHTML", "insertAdjacent", "eval(", "url("]
                {
                    assert!(!text.contains(never), "{path}: {never}");
                }
            }
        }
        assert!(assets::POLICY.is_ascii());
    }

    /// What the page loads by its own files, as they name each other.
    #[test]
    fn every_file_is_asked_for_by_a_relative_address() {
        let asked: BTreeSet<String> = own()
            .flat_map(|(_, _, text)| text.split('"').skip(1).step_by(2))
            .filter_map(|name| name.strip_prefix("assets/").or_else(|| name.strip_prefix("./")))
            .filter(|name| name.ends_with(".js") || name.ends_with(".css"))
            .map(|name| format!("/assets/{name}"))
            .collect();
        let served: BTreeSet<String> =
            FILES.iter().filter(|(_, kind, _)| *kind != HTML).map(|(path, ..)| (*path).to_owned()).collect();
        assert_eq!(asked, served);
        for (path, _, text) in own() {
            // Below a proxy's prefix an absolute address leads somewhere else.
            for never in ["=\"/", "(\"/", "`/", "\"/assets"] {
                assert!(!text.contains(never), "{path}: {never}");
            }
        }
    }

    /// English words of the page: in marked elements, and in calls of `t` and `say`.
    fn words() -> BTreeSet<String> {
        let page = file("/");
        let mut words: BTreeSet<String> =
            page.split(" data-t>").skip(1).filter_map(|rest| rest.split('<').next()).map(str::to_owned).collect();
        for mark in [" data-t-label=\"", " data-t-title=\""] {
            words.extend(page.split(mark).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
        for (path, _, text) in own().filter(|(_, kind, _)| *kind == JAVASCRIPT) {
            for call in ["t(\"", "say(\""] {
                let calls = text.match_indices(call).filter(|(at, _)| {
                    // Not the end of another name, such as `put`.
                    !text[..*at].ends_with(|before: char| before.is_alphanumeric() || before == '.')
                });
                for (at, _) in calls {
                    let word = text[at + call.len()..].split('"').next().unwrap_or_default();
                    assert!(!word.contains('\n'), "{path}: a word goes on in another line: {word}");
                    words.insert(word.to_owned());
                }
            }
        }
        words
    }

    #[test]
    fn every_word_has_its_chinese() {
        let chinese = ["/assets/chinese.js", "/assets/chinese_names.js"].map(file).concat();
        let missing: Vec<_> =
            words().into_iter().filter(|word| !chinese.contains(&format!("\n  \"{word}\": \""))).collect();
        assert!(words().len() > 150, "only {} words were found", words().len());
        assert!(missing.is_empty(), "no Chinese for {missing:#?}");
    }

    #[test]
    fn uplot_goes_out_with_its_licence() {
        for path in ["/assets/uplot.css", "/assets/uplot.js"] {
            let licence = file(path).split("*/").next().unwrap();
            assert!(licence.contains("The MIT License") && licence.contains("Leon Sorokin"), "{path}: {licence}");
        }
    }
}
