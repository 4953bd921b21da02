//! Serves the web console: one page, made of files in the binary, that uses the API like any other client.
//!
//! Nothing is generated at run time, and nothing is fetched from elsewhere. The page itself contains no data, so that
//! it may be loaded without permission to read.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

/// A file of the page.
struct File {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

const fn script(path: &'static str, text: &'static str) -> File {
    File { path, kind: "text/javascript; charset=utf-8", text }
}

const FILES: &[File] = &[
    File { path: "/", kind: "text/html; charset=utf-8", text: include_str!("console/index.html") },
    File { path: "/console/style.css", kind: "text/css; charset=utf-8", text: include_str!("console/style.css") },
    File { path: "/console/icon.svg", kind: "image/svg+xml", text: include_str!("console/icon.svg") },
    script("/console/main.js", include_str!("console/main.js")),
    script("/console/calls.js", include_str!("console/calls.js")),
    script("/console/nodes.js", include_str!("console/nodes.js")),
    script("/console/page.js", include_str!("console/page.js")),
    script("/console/picture.js", include_str!("console/picture.js")),
    script("/console/rates.js", include_str!("console/rates.js")),
    script("/console/tables.js", include_str!("console/tables.js")),
    script("/console/text.js", include_str!("console/text.js")),
];

/// The routes of the page.
pub(super) fn console<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, file| {
        // Not cached: after an upgrade, an old page would not understand the new engine.
        let serve = || async { ([(header::CONTENT_TYPE, file.kind), (header::CACHE_CONTROL, "no-cache")], file.text) };
        router.route(file.path, get(async move || serve().await.into_response()))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_page_loads_nothing_that_is_not_served() {
        let served: BTreeSet<_> = FILES.iter().map(|file| file.path).collect();
        for file in FILES {
            let named =
                file.text.split(['"', '\'']).filter(|word| word.starts_with("/console/") || word.starts_with("./"));
            for name in named {
                let path = name.replace("./", "/console/");
                assert!(served.contains(path.as_str()), "{} names {path}", file.path);
            }
        }
    }

    #[test]
    fn the_page_asks_nobody_else_and_runs_nothing_inline() {
        for file in FILES.iter().filter(|file| file.kind != "image/svg+xml") {
            let text = file.text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("http://") && !text.contains("https://"), "{} names another site", file.path);
            for inline in ["innerHTML", "style=", "onclick=", "eval(", "<script>"] {
                assert!(!text.contains(inline), "{} has {inline}", file.path);
            }
        }
    }
}
