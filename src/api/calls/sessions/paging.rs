//! Reads where a page of a list stands from the headers of the response.

use axum::http::HeaderMap;
use axum::http::header::LINK;
use serde::Deserialize;

use super::{Cursor, SessionPage};

/// The header with the number of all matching sessions.
pub(in crate::api) const TOTAL_HEADER: &str = "x-total-count";

/// The page with its total and the cursor of the next page.
pub(super) fn with_cursor(page: SessionPage, headers: &HeaderMap) -> SessionPage {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    SessionPage {
        total: text(TOTAL_HEADER).and_then(|total| total.parse().ok()),
        next: text(LINK.as_str()).and_then(next),
        ..page
    }
}

/// The cursor in `</api/v1/sessions?after=...>; rel="next"`.
fn next(link: &str) -> Option<Cursor> {
    #[derive(Deserialize)]
    struct Query {
        after: String,
    }
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    let (_, query) = target.split_once('?')?;
    let query = serde_urlencoded::from_str::<Query>(query).ok().filter(|_| parameters.contains("rel=\"next\""))?;
    query.after.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_an_answer_says_how_many_there_are_and_where_to_go_on() {
        let mut headers = HeaderMap::new();
        assert_eq!(with_cursor(SessionPage::default(), &headers), SessionPage::default());
        headers.insert(TOTAL_HEADER, "2849".parse().unwrap());
        let link = "</api/v1/sessions?limit=1000&after=outer%3A1000%2Cinner%3A7>; rel=\"next\"";
        headers.insert(LINK, link.parse().unwrap());

        let page = with_cursor(SessionPage::default(), &headers);

        assert_eq!(page.total, Some(2849));
        assert_eq!(page.next, Some("outer:1000,inner:7".parse().unwrap()));
        for other in ["</api/v1/sessions?after=outer:1>; rel=\"prev\"", "</x>; rel=\"next\"", "nonsense"] {
            headers.insert(LINK, other.parse().unwrap());
            assert_eq!(with_cursor(SessionPage::default(), &headers).next, None, "{other}");
        }
    }
}
